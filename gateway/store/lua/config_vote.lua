#!lua flags=allow-oom
--@include _record
-- Say whether a member can run the revision that is proposed.
--
-- Promise: a vote counts for the proposal it was given for, never for a later one.
-- Repeat: the same vote again.
-- KEYS 1 prefix of the configuration (see config_propose.lua)   ARGV 1 token  2 incarnation  3 yes, or no US problems (JSON)
-- Returns 1, or 0 where that proposal is over
local left = call('PTTL', P .. 'proposal')
if left <= 0 or call('HGET', P .. 'proposal', 'token') ~= ARGV[1] then return 0 end
call('HSET', P .. 'votes', ARGV[2], ARGV[3])
call('PEXPIRE', P .. 'votes', left)
return 1
