/** Questions that show what can be asked; the browser test asks each of them. */

export interface Example {
  readonly name: string;
  readonly query: string;
}

export const EXAMPLES: readonly Example[] = [
  {
    name: "The newest spans",
    query: `SELECT start_time, service_name, name, kind, duration_nano / 1e6 AS ms, status_code
FROM spans
ORDER BY start_time DESC
LIMIT 100`,
  },
  {
    name: "Services by errors",
    query: `SELECT service_name, count(*) AS spans, sum(CASE WHEN status_code = 2 THEN 1 ELSE 0 END) AS errors,
       round(approx_percentile_cont(duration_nano, 0.95) / 1e6, 2) AS p95_ms
FROM spans
GROUP BY service_name
ORDER BY errors DESC`,
  },
  {
    name: "Why spans failed",
    query: `SELECT service_name, name, status_message, count(*) AS times, max(start_time) AS last
FROM spans
WHERE status_code = 2
GROUP BY service_name, name, status_message
ORDER BY times DESC`,
  },
  {
    name: "Tokens by model",
    query: `SELECT gen_ai_request_model AS model, count(*) AS calls,
       sum(gen_ai_usage_input_tokens) AS tokens_in, sum(gen_ai_usage_output_tokens) AS tokens_out
FROM spans
WHERE gen_ai_operation_name IS NOT NULL
GROUP BY gen_ai_request_model
ORDER BY calls DESC`,
  },
  {
    name: "Requests a minute",
    query: `SELECT date_trunc('minute', start_time) AS minute, count(*) AS requests, max(duration_nano) / 1e6 AS slowest_ms
FROM spans
WHERE parent_span_id IS NULL
GROUP BY 1
ORDER BY 1 DESC
LIMIT 60`,
  },
  {
    name: "All tables",
    query: "SHOW TABLES",
  },
];
