#!lua flags=allow-oom
--@include _record
-- Keep receipts whose message is not known yet, under every spelling of their SMSC id.
--
-- Promise: a receipt is parked, or its id is known, in one step: an id recorded meanwhile cannot miss it.
-- Repeat: parking the same receipt again keeps one.
-- KEYS 1 prefix   ARGV 1 parked receipts kept a channel  2 their TTL s  3 days an SMSC id may be old
--   then for each receipt 4 values: channel, spellings (channel:smsc_id, as in receipt.lua), '1' to look once more whether
--   one of them that is no guess is known, payload
-- Returns  one letter a receipt in one string: P parked | K known by now | O the channel's parking is full, dropped
local now = time_ms()
local now_s = floor(now / 1000)
local answers = {}
for i = 4, #ARGV, 4 do
  local channel, payload = ARGV[i], ARGV[i + 3]
  local index = P .. 'parked:' .. channel
  local fields, sure = {}, {}
  for mark, name in string.gmatch(ARGV[i + 1], '([\30\31]?)([^\30\31]+)') do
    fields[#fields + 1] = name
    if mark ~= '\30' then sure[#sure + 1] = name end
  end
  local answer = 'P'
  if ARGV[i + 2] == '1' then
    local values = find_smsc_ids(sure, now, tonumber(ARGV[3]))
    for f = 1, #sure do
      if values[f] then answer = 'K' end
    end
  end
  if answer == 'P' and call('ZCARD', index) >= tonumber(ARGV[1]) then
    call('ZREMRANGEBYSCORE', index, '-inf', now_s - ARGV[2])
    if call('ZCARD', index) >= tonumber(ARGV[1]) then answer = 'O' end
  end
  for f = 1, answer == 'P' and #fields or 0 do
    -- A list: two receipts may share a spelling (decimal 257 and hexadecimal 257 are different messages).
    local key = P .. 'park:' .. fields[f]
    call('LREM', key, 1, payload)
    call('RPUSH', key, payload)
    call('LTRIM', key, -8, -1)
    call('EXPIRE', key, ARGV[2])
    call('ZADD', index, 'NX', now_s, sub(fields[f], #channel + 2))
    call('EXPIRE', index, ARGV[2]) -- nobody looks at it any more once its channel has left
  end
  answers[#answers + 1] = answer
end
return table.concat(answers)
