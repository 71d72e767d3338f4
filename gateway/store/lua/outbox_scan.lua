#!lua flags=no-writes
-- Read a slice of the records and give those of one account that had their last state in a time.
--
-- Promise: reads only; over a whole walk every record that is there all the while is met at least once (SCAN).
-- Repeat: the same slice.
-- KEYS 1 prefix   ARGV 1 cursor  2 keys to look at  3 account  4 from ms  5 to ms
-- Returns  next cursor ('0': the end), then for each record its id and itself
local P = KEYS[1]
local call, sub, byte = redis.call, string.sub, string.byte
local account, from, to = ARGV[3] .. '\31', tonumber(ARGV[4]), tonumber(ARGV[5])
local slice = call('SCAN', ARGV[1], 'MATCH', P .. 'msg:*', 'COUNT', ARGV[2])
local found = { slice[1] }
local keys, skip = slice[2], #P + 4
for first = 1, #keys, 500 do
  local raws = call('MGET', unpack(keys, first, math.min(first + 499, #keys)))
  for i = 1, #raws do
    local raw = raws[i]
    if raw and #raw > 58 then
      local at = 33 + byte(raw, 25)
      if sub(raw, at, at + #account - 1) == account then
        local a, b, c, d, e, f = byte(raw, #raw - 13, #raw - 8)
        local state_at = ((((a * 256 + b) * 256 + c) * 256 + d) * 256 + e) * 256 + f
        a, b, c, d, e, f = byte(raw, 1, 6)
        local accepted_at = ((((a * 256 + b) * 256 + c) * 256 + d) * 256 + e) * 256 + f
        if state_at >= from and accepted_at <= to then
          found[#found + 1] = sub(keys[first + i - 1], skip + 1)
          found[#found + 1] = raw
        end
      end
    end
  end
end
return found
