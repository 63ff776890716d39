-- How fast does each deployment answer, and how often not at all, hour by hour?
SELECT time_bucket(INTERVAL 1 HOUR, ts) AS hour, name, sum(requests) AS requests,
       round(sum(total_ms) / sum(requests), 1) AS mean_ms,
       round(100.0 * sum(failed + cut) / sum(requests), 2) AS failed_percent, max(held_most_ms) AS longest_hold_ms
FROM requests
WHERE kind = 'deployment'
GROUP BY ALL
HAVING sum(requests) > 0
ORDER BY hour DESC, name
