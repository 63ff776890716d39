-- Which runs took much longer than the ten of their workflow before them?
WITH times AS (
    SELECT name, workflow, number, started, epoch(finished - started) AS took_s
    FROM runs WHERE phase = 'Succeeded'
), compared AS (
    SELECT *, median(took_s) OVER (
        PARTITION BY workflow ORDER BY number ROWS BETWEEN 10 PRECEDING AND 1 PRECEDING
    ) AS usual_s
    FROM times
)
SELECT name, started, round(took_s, 1) AS took_s, round(usual_s, 1) AS usual_s, round(took_s / usual_s, 2) AS times
FROM compared
WHERE took_s > 1.5 * usual_s
ORDER BY started DESC
