#!lua flags=no-writes
--@include _record
-- What was sent to numbers of late: whose the messages were that handsets may be answering.
--
-- KEYS 1 prefix   ARGV for each number its spellings, RS between them
-- Returns for each: the first spelling the store knows (else the first), the caps of its value, the number of messages,
--   then for each of these, the newest first: id, state .. category .. flags (a character each), dims, extras
local now, result = time_ms(), {}
for i = 1, #ARGV do
  local number, value = nil, nil
  for spelling in string.gmatch(ARGV[i], '[^\30]+') do
    number = number or spelling
    local found = call('HGET', num_key(now, 0), spelling) or call('HGET', num_key(now, 1), spelling)
    if found then
      number, value = spelling, found
      break
    end
  end
  local ids = value and ids_of_number(value) or {}
  result[#result + 1] = number or ''
  result[#result + 1] = value and sub(value, 1, #value - ID * #ids) or ''
  local at, n = #result + 1, 0
  result[at] = 0
  local records = fetch(ids)
  for k = #records, 1, -1 do
    local r = records[k]
    if r then
      n = n + 1
      result[#result + 1] = r.id
      result[#result + 1] = r.state .. r.cat .. char(r.flags)
      result[#result + 1] = r.dims
      result[#result + 1] = sub(r.raw, r.extras_at, r.extras_at + r.extras_len - 1)
    end
  end
  result[at] = n
end
return result
