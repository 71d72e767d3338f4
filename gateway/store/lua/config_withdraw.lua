#!lua flags=allow-oom
--@include _record
-- End a proposal without putting it in force.
--
-- Repeat: finds it gone.
-- KEYS 1 prefix of the configuration (see config_propose.lua)   ARGV 1 token
-- Returns 1, or 0 where it was over
if call('HGET', P .. 'state', 'token') == ARGV[1] then call('HSET', P .. 'state', 'token', '') end
if call('HGET', P .. 'proposal', 'token') ~= ARGV[1] then return 0 end
call('DEL', P .. 'proposal', P .. 'votes')
return 1
