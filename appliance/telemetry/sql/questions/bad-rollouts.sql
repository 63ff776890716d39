-- Did requests begin to fail with a new generation of a deployment?
WITH begun AS (
    SELECT deployment, generation, cause, ready FROM rollouts WHERE ready IS NOT NULL
)
SELECT b.deployment, b.generation, b.cause, b.ready, sum(r.requests) AS requests,
       round(100.0 * sum(r.failed) / sum(r.requests), 2) AS failed_percent,
       round(sum(r.total_ms) / sum(r.requests), 1) AS mean_ms
FROM requests r
ASOF JOIN begun b ON b.deployment = r.name AND r.ts >= b.ready
WHERE r.kind = 'deployment'
GROUP BY ALL
HAVING sum(r.requests) > 0
ORDER BY b.deployment, b.generation DESC
