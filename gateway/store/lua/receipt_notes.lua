#!lua flags=allow-oom
--@include _record
-- Add up what a worker noted of receipts: failure codes that no table has, and how receipts of each channel went.
--
-- Promise: of the codes at most so many are kept, those seen last; the counts of five minutes are kept for three hours.
-- Repeat: a batch that was taken is not taken again (its number is the worker's last, or older).
-- KEYS 1 prefix
-- ARGV 1 worker's incarnation  2 number of its batch, from 1  3 codes kept at most  4 number of codes, then for each 2
--   values: channel US code, times seen; then pairs of channel US what was counted, how often (see dlr/receipt_signals.py)
-- Returns  1 when it was taken, 0 when it had been
local now = time_ms()
local last = P .. 'noted:' .. ARGV[1]
if tonumber(call('GET', last) or '0') >= tonumber(ARGV[2]) then return 0 end
call('SET', last, ARGV[2], 'EX', 3600)

local key, most, codes = P .. 'codes', tonumber(ARGV[3]), tonumber(ARGV[4])
for i = 5, 3 + codes * 2, 2 do
  local known = call('HGET', key, ARGV[i])
  local n = known and tonumber(string.match(known, '^%d+')) or 0
  call('HSET', key, ARGV[i], ms_text(n + tonumber(ARGV[i + 1])) .. ':' .. ms_text(now))
end
local over = call('HLEN', key) - most
if over > 0 then
  local all, by_age = call('HGETALL', key), {}
  for i = 1, #all, 2 do by_age[#by_age + 1] = { all[i], tonumber(string.match(all[i + 1], ':(%d+)$')) } end
  table.sort(by_age, function(a, b) return a[2] < b[2] or a[2] == b[2] and a[1] < b[1] end)
  for i = 1, over do call('HDEL', key, by_age[i][1]) end
end

local slot = P .. 'receipts:' .. floor(now / 300000) * 300
for i = 5 + codes * 2, #ARGV, 2 do call('HINCRBY', slot, ARGV[i], ARGV[i + 1]) end
if #ARGV >= 5 + codes * 2 then call('EXPIRE', slot, 10800) end
return 1
