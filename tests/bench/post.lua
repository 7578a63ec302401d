-- The request that wrk repeats: the size of a short message to a model.
wrk.method = "POST"
wrk.path = "/v1/messages"
wrk.headers["content-type"] = "application/json"
wrk.headers["x-api-key"] = "CREDENTIAL_PROXY_PLACEHOLDER"
wrk.body = '{"model":"bench","max_tokens":16,"messages":[{"role":"user","content":"' .. string.rep("x", 900) .. '"}]}'
