-- Where did each run end with what it measured itself?
SELECT m.name AS run, r.phase, m.part AS job, m.metric, count(*) AS points, max(m.step) AS last_step,
       arg_max(m.value, coalesce(m.step, 0) * 1e12 + epoch_ms(m.ts)) AS last_value,
       min(m.value) AS least, max(m.value) AS most
FROM metrics m
LEFT JOIN runs r ON r.name = m.name
WHERE m.kind = 'run' AND NOT starts_with(m.metric, 'container_')
GROUP BY ALL
ORDER BY m.metric, last_value
