-- Every record once, however often it was delivered.
SELECT DISTINCT
  day, substr(day, 1, 7) AS month, id, tenant_id, tier, feature, kind, name, outcome, calls, errors, latency_ms,
  input_tokens, output_tokens, cache_read_tokens, cache_write_tokens,
  input_tokens + output_tokens + cache_read_tokens + cache_write_tokens AS tokens,
  CAST(cost_usd AS DECIMAL(38, 18)) AS cost_usd
FROM usage_records
