#!lua flags=allow-oom
--@include _record
-- Take a number off blacklists.
--
-- Repeat: finds nothing any more and changes nothing.
-- KEYS 1 prefix   ARGV 1 number  2 scope  3 '1': also of the scopes below it  4 only entries of this reason ('' any)
--   5 audit entry ('' none)
-- Returns pairs: scope, the value it had
local now, counts, found = time_ms(), {}, {}
for _, scope in ipairs(ARGV[3] == '1' and scopes_below(ARGV[2]) or { ARGV[2] }) do
  local value = call('HGET', P .. 'blacklist:' .. scope, ARGV[1])
  if value and (ARGV[4] == '' or select(2, black_parts(value)) == ARGV[4]) then
    call('HDEL', P .. 'blacklist:' .. scope, ARGV[1])
    black_changed(counts, scope, value, nil)
    found[#found + 1] = scope
    found[#found + 1] = value
  end
end
if #found > 0 then
  black_counted(counts, now)
  if ARGV[5] ~= '' then audit(now, ARGV[5], table.concat(found, ' '), '') end
end
return found
