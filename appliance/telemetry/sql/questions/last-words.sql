-- What were the last lines of each job that failed?
SELECT j.run, j.job, j.exit_code, l.ts, l.stream, l.line
FROM jobs j
JOIN logs l ON l.kind = 'run' AND l.name = j.run AND l.part = j.job
WHERE j.phase = 'Failed'
QUALIFY row_number() OVER (PARTITION BY j.run, j.job ORDER BY l.seq DESC) <= 5
ORDER BY j.finished DESC, j.run, j.job, l.seq
