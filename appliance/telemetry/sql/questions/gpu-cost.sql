-- What did GPUs come to in the last seven days, and for whom?
SELECT owner, kind, round(sum(held_s) / 3600, 2) AS hours_held, round(sum(used_s) / 3600, 2) AS hours_used,
       round(sum(energy_j) / 3.6e6, 3) AS kwh
FROM gpu_ledger
WHERE hour >= now()::TIMESTAMP - INTERVAL 7 DAY
GROUP BY ALL
ORDER BY hours_held DESC
