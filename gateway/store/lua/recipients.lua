#!lua flags=no-writes
--@include _record
-- To whom the messages went that receipts name, and what they are counted under.
--
-- Repeat: the same.
-- KEYS 1 prefix   ARGV 1 days an SMSC id may be old; then for each 2 values: address digits (or ''), spellings of its
--   SMSC id, likeliest first (channel:smsc_id, US between them)
-- Returns  pairs: msisdn, dims; both '' where no message is found, or only one to another number
local now = time_ms()
local result = {}
for i = 2, #ARGV, 2 do
  local address, names = ARGV[i], {}
  for name in string.gmatch(ARGV[i + 1], '[^\31]+') do names[#names + 1] = name end
  local values = find_smsc_ids(names, now, tonumber(ARGV[1]))
  local msisdn, dims = '', ''
  for f = 1, #names do
    local raw = values[f] and call('GET', P .. 'msg:' .. sub(values[f], 1, ID))
    if raw then
      local r = read_record(sub(values[f], 1, ID), raw)
      -- As in receipt.lua: the last eight digits are compared, the likeliest spelling alone is believed without.
      if address == '' and f == 1 or address ~= '' and sub(r.msisdn, -8) == sub(address, -math.min(8, #r.msisdn)) then
        msisdn, dims = r.msisdn, sub(raw, 33 + #r.msisdn, r.extras_at - 1)
        break
      end
    end
  end
  result[#result + 1] = msisdn
  result[#result + 1] = dims
end
return result
