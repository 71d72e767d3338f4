#!lua flags=allow-oom
--@include _record
-- Say that a member lives and what it runs; or that it ends.
--
-- Promise: who lives is told by the store's clock alone. Members that were silent for ARGV 3 are forgotten.
-- Repeat: one more beat.
-- KEYS 1 prefix of the configuration (see config_propose.lua)
-- ARGV 1 incarnation  2 what it says of itself (JSON; '': it ends)  3 ms without a beat after which a member is forgotten
-- Returns how many members there are
local members = P .. 'members'
if ARGV[2] == '' then
  call('HDEL', members, ARGV[1])
  return call('HLEN', members)
end
local now = time_ms()
call('HSET', members, ARGV[1], ms_text(now) .. US .. ARGV[2])
local all = call('HGETALL', members)
for i = 1, #all, 2 do
  if now - tonumber(string.match(all[i + 1], '^%d+')) > tonumber(ARGV[3]) then call('HDEL', members, all[i]) end
end
return call('HLEN', members)
