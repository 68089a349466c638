-- Tokens by day, tenant, feature and model.
SELECT
  day, tenant_id, tier, feature, name AS model_id,
  CAST(SUM(calls) AS BIGINT) AS calls,
  CAST(SUM(input_tokens) AS BIGINT) AS input_tokens,
  CAST(SUM(output_tokens) AS BIGINT) AS output_tokens,
  CAST(SUM(cache_read_tokens) AS BIGINT) AS cache_read_tokens,
  CAST(SUM(cache_write_tokens) AS BIGINT) AS cache_write_tokens,
  CAST(SUM(tokens) AS BIGINT) AS tokens
FROM counted_once
WHERE kind = 'model_call'
GROUP BY day, tenant_id, tier, feature, name
