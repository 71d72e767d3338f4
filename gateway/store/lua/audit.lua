#!lua
--@include _record
-- Note one change in the audit (see _blacklist.lua).
--
-- Repeat: a token that the latest entries hold is not noted again.
-- KEYS 1 prefix   ARGV 1 what (JSON)  2 before  3 after  4 token that stands in `what`
-- Returns 1 when it was noted
for _, entry in ipairs(call('XREVRANGE', P .. 'audit', '+', '-', 'COUNT', 100)) do
  if find(entry[2][6], ARGV[4], 1, true) then return 0 end
end
audit(time_ms(), ARGV[1], ARGV[2], ARGV[3])
return 1
