#!lua flags=allow-oom
--@include _record
-- Find the message part that a receipt names; park the receipt when nobody knows the id (yet).
--
-- Promise: a receipt is either matched or parked in one step, so a response recorded meanwhile cannot miss it. The
--   correlation of a final receipt moves to the hour's `done`: repeats still find it for an hour or two.
-- Repeat: the same answer; parking the same receipt again keeps one.
-- KEYS 1 prefix   ARGV 1 parked receipts kept a channel  2 their TTL s  3 days a correlation may be old
--   4 'f': only look up (all are final), then for each receipt one value: channel:smsc_id
--     'p': then for each receipt 5 values: channel, smsc_id, final ('1'), park if missing ('1'), payload
-- Returns  for each: id .. part, or '' (missing), or 'P' (parked), or 'O' (the channel's parking is full, dropped)
local now = time_ms()
local fields = {}
local parking = ARGV[4] == 'p'
if parking then
  for i = 5, #ARGV, 5 do fields[#fields + 1] = ARGV[i] .. ':' .. ARGV[i + 1] end
else
  for i = 5, #ARGV do fields[i - 4] = ARGV[i] end
end
local found = find_smsc_ids(fields, now, tonumber(ARGV[3]))
local result, moved, from = {}, {}, {}
local now_s = floor(now / 1000)
for k = 1, #fields do
  local b = 5 + (k - 1) * 5
  local match = found[k]
  if match then
    result[k] = match[1]
    if (not parking or ARGV[b + 2] == '1') and find(match[2], ':corr:', 1, true) then
      moved[#moved + 1] = fields[k]
      moved[#moved + 1] = match[1]
      local list = from[match[2]]
      if list then list[#list + 1] = fields[k] else from[match[2]] = { fields[k] } end
    end
  elseif parking and ARGV[b + 3] == '1' then
    local index = P .. 'parked:' .. ARGV[b]
    if call('ZCARD', index) >= tonumber(ARGV[1]) then
      call('ZREMRANGEBYSCORE', index, '-inf', now_s - ARGV[2])
    end
    if call('ZCARD', index) >= tonumber(ARGV[1]) then
      result[k] = 'O'
    else
      -- A list: two receipts may share a spelling (decimal 257 and hexadecimal 257 are different messages).
      local key = P .. 'park:' .. fields[k]
      call('LREM', key, 1, ARGV[b + 4])
      call('RPUSH', key, ARGV[b + 4])
      call('LTRIM', key, -8, -1)
      call('EXPIRE', key, ARGV[2])
      call('ZADD', index, 'NX', now_s, ARGV[b + 1])
      result[k] = 'P'
    end
  else
    result[k] = ''
  end
end
if #moved > 0 then
  local done = P .. 'done:' .. floor(now / 3600000)
  call('HSET', done, unpack(moved))
  call('EXPIRE', done, 7200, 'NX')
  for key, list in pairs(from) do call('HDEL', key, unpack(list)) end
end
return result
