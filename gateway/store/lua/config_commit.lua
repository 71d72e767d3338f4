#!lua flags=allow-oom
--@include _record
-- Put a proposal in force as the next revision, if every member that must agree did or is gone.
--
-- Promise: in force for all or for nobody; numbers are given without gaps; the oldest revisions leave the history when there
--   are more than ARGV 3 or their texts take more than ARGV 4, never the one in force.
-- Repeat: finds its token under the revision in force, and answers its number.
-- KEYS 1 prefix of the configuration (see config_propose.lua)
-- ARGV 1 token  2 ms without a beat after which a member is gone  3 most revisions  4 most bytes of their texts
--   5 'dry': answer `agreed` where it would commit
-- Returns  committed, number | agreed | waiting and the members without a vote | refused and pairs: member, problems |
--   lapsed
local state = call('HMGET', P .. 'state', 'number', 'last')
if state[2] == ARGV[1] then return { 'committed', tonumber(state[1]) } end
local p = call('HMGET', P .. 'proposal', 'token', 'base', 'digest', 'text', 'about', 'required')
if p[1] ~= ARGV[1] then return { 'lapsed' } end
local now = time_ms()
local refused, waiting = { 'refused' }, { 'waiting' }
for inc in string.gmatch(p[6], '[^\30]+') do
  local vote = call('HGET', P .. 'votes', inc)
  if not vote then
    local beat = call('HGET', P .. 'members', inc)
    if beat and now - tonumber(string.match(beat, '^%d+')) < tonumber(ARGV[2]) then waiting[#waiting + 1] = inc end
  elseif vote ~= 'yes' then
    refused[#refused + 1] = inc
    refused[#refused + 1] = sub(vote, 4)
  end
end
if #refused > 1 then return refused end
if #waiting > 1 then return waiting end
if ARGV[5] == 'dry' then return { 'agreed' } end
local number = tonumber(p[2]) + 1
call('HSET', P .. 'revisions', number, table.concat({ p[5], p[3], ms_text(now), #p[4], ARGV[1] }, US))
call('HSET', P .. 'texts', number, p[4])
call('HSET', P .. 'state', 'number', number, 'digest', p[3], 'last', ARGV[1], 'token', '')
call('DEL', P .. 'proposal', P .. 'votes')
local kept, bytes = 0, 0
for n = number, 1, -1 do
  local entry = call('HGET', P .. 'revisions', n)
  if not entry then break end
  kept, bytes = kept + 1, bytes + tonumber(string.match(entry, '\31(%d+)\31[^\31]*$'))
  if n < number and (kept > tonumber(ARGV[3]) or bytes > tonumber(ARGV[4])) then
    call('HDEL', P .. 'revisions', n)
    call('HDEL', P .. 'texts', n)
  end
end
return { 'committed', number }
