-- What did each GPU do when a line with `error` in it was printed?
WITH lines AS (
    FROM logs WHERE line ILIKE '%error%' ORDER BY seq DESC LIMIT 50
), cards AS (
    SELECT DISTINCT device FROM gpu_samples
), both_of AS (
    SELECT * FROM lines CROSS JOIN cards
)
SELECT b.ts, b.kind, b.name, b.part, g.device, g.busy, g.memory, g.temperature, g.throttled, g.lost, b.line
FROM both_of b
ASOF JOIN gpu_samples g ON g.device = b.device AND b.ts >= g.ts
WHERE b.ts - g.ts < INTERVAL 1 MINUTE
ORDER BY b.ts DESC, g.device
