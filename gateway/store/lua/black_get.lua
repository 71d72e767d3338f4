#!lua flags=no-writes
--@include _record
-- The entries of a number.
--
-- KEYS 1 prefix   ARGV 1 number  2 scope, with those below it; '' all   Returns pairs: scope, value
local scopes = {}
if ARGV[2] == '' then
  scopes = call('SMEMBERS', P .. 'blacklists')
  table.sort(scopes)
  table.insert(scopes, 1, '*')
else
  scopes = scopes_below(ARGV[2])
end
local found = {}
for _, scope in ipairs(scopes) do
  local value = call('HGET', P .. 'blacklist:' .. scope, ARGV[1])
  if value then
    found[#found + 1] = scope
    found[#found + 1] = value
  end
end
return found
