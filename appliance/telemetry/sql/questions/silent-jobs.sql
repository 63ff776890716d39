-- Which jobs run and have printed nothing for ten minutes?
WITH said AS (
    SELECT name AS run, part AS job, max(ts) AS last_line FROM logs WHERE kind = 'run' GROUP BY ALL
), running AS (
    SELECT j.run, j.job, j.started, s.last_line, now()::TIMESTAMP - coalesce(s.last_line, j.started) AS silent_for
    FROM jobs j LEFT JOIN said s USING (run, job)
    WHERE j.phase = 'Running'
)
FROM running WHERE silent_for > INTERVAL 10 MINUTE ORDER BY silent_for DESC
