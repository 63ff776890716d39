-- How near did each container come to its memory limit?
SELECT kind, name, part,
       max(value) FILTER (metric = 'container_memory_bytes') AS most_bytes,
       max(value) FILTER (metric = 'container_memory_limit_bytes') AS limit_bytes,
       round(100 * most_bytes / limit_bytes, 1) AS percent
FROM metrics
WHERE metric IN ('container_memory_bytes', 'container_memory_limit_bytes')
GROUP BY kind, name, part
ORDER BY percent DESC NULLS LAST, most_bytes DESC
