#!lua flags=allow-oom
--@include _record
-- Propose the next revision of the configuration to all members that live.
--
-- Promise: one proposal at a time; it lapses by the store's clock when whoever made it dies. Nobody runs it yet.
-- Repeat: finds its token, and answers as the first call did.
-- KEYS 1 prefix of the configuration
--   state      number, digest and `last` (token) of the revision in force; token of the proposal, '' when it ended
--   members    incarnation → time of its last beat US what it said of itself
--   proposal   token, number it is based on, digest, text, about (JSON), at, required (incarnations, RS between them)
--   votes      incarnation → yes, or no US problems (JSON)
--   revisions, texts   number → about (JSON) US digest US at US bytes US token; number → text
-- ARGV 1 token  2 number of the revision in force that it is based on  3 digest  4 text  5 about (JSON)
--   6 ms until it lapses  7 ms without a beat after which a member is gone
-- Returns  ok and the members that must agree | busy, about, age in ms | moved, number of the revision in force
local now = time_ms()
local was = call('HMGET', P .. 'proposal', 'token', 'about', 'at', 'required')
if was[1] == ARGV[1] then
  local answer = { 'ok' }
  for inc in string.gmatch(was[4], '[^\30]+') do answer[#answer + 1] = inc end
  return answer
end
if was[1] then return { 'busy', was[2], now - tonumber(was[3]) } end
local number = tonumber(call('HGET', P .. 'state', 'number') or '0')
if number ~= tonumber(ARGV[2]) then return { 'moved', number } end
local required, members = {}, call('HGETALL', P .. 'members')
for i = 1, #members, 2 do
  if now - tonumber(string.match(members[i + 1], '^%d+')) < tonumber(ARGV[7]) then required[#required + 1] = members[i] end
end
table.sort(required)
call('DEL', P .. 'votes')
call('HSET', P .. 'proposal', 'token', ARGV[1], 'base', number, 'digest', ARGV[3], 'text', ARGV[4], 'about', ARGV[5],
  'at', ms_text(now), 'required', table.concat(required, RS))
call('PEXPIRE', P .. 'proposal', ARGV[6])
call('HSET', P .. 'state', 'token', ARGV[1])
return { 'ok', unpack(required) }
