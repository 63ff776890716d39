-- Who holds a GPU that has done next to nothing for half an hour?
WITH held AS (
    SELECT kind, name, part, owner, granted, unnest(cards) AS device FROM leases WHERE state = 'Held'
)
SELECT h.kind, h.name, h.part, h.owner, h.granted, h.device, round(avg(g.busy), 1) AS busy, max(g.memory) AS memory
FROM held h
JOIN gpu_samples g ON g.device = h.device AND g.ts >= greatest(h.granted, now()::TIMESTAMP - INTERVAL 30 MINUTE)
GROUP BY ALL
HAVING avg(g.busy) < 5
ORDER BY h.granted
