-- Who printed errors, and how many in each hour?
SELECT time_bucket(INTERVAL 1 HOUR, ts) AS hour, kind, name, count(*) AS lines, any_value(line) AS one_of_them
FROM logs
WHERE regexp_matches(line, '(?i)(error|exception|traceback|fatal|panic)')
GROUP BY ALL
ORDER BY hour DESC, lines DESC
