#!lua flags=no-writes
-- The message that an idempotency mark stands for.   KEYS 1 prefix   ARGV 1 mark (16 bytes)   Returns id, record or ''
local P = KEYS[1]
local gen = tonumber(redis.call('GET', P .. 'idem:gen') or '1')
local held = redis.call('HGET', P .. 'idem:' .. gen, ARGV[1]) or redis.call('HGET', P .. 'idem:' .. (gen - 1), ARGV[1])
if not held then return {} end
local id = string.sub(held, 1, 16)
return { id, redis.call('GET', P .. 'msg:' .. id) or '' }
