#!lua flags=allow-oom
-- Add, change or remove a user of the console, and end those of their sessions that must not outlive it.
--
-- Promise: a change counts against the version it was made from, never over another's; with ARGV 5 somebody who may
--   administrate is left. Sessions end in the same step.
-- Repeat: the same user is there (or gone) already: ok.
-- KEYS 1 prefix of the console: `users` name → JSON with version, role, enabled; `sessions` (see console_open.lua);
--   `steps`, `last` by name; `setup` (see console_setup.lua)
-- ARGV 1 name  2 version it was made from (0: a new user)  3 JSON ('': remove)  4 '' leaves sessions, 'all' ends them,
--   else ends all but that id  5 '1': refuse to leave no administrator  6 most users
-- Returns  ok | exists | absent | moved | last | full, and how many sessions ended
local call, P = redis.call, KEYS[1]
local users, name, new = P .. 'users', ARGV[1], ARGV[3]
local old = call('HGET', users, name)

local function end_sessions()
  local ended = 0
  if ARGV[4] == '' then return 0 end
  local flat = call('HGETALL', P .. 'sessions')
  for i = 1, #flat, 2 do
    if flat[i] ~= ARGV[4] and string.match(flat[i + 1], '^[^\31]*') == name then
      ended = ended + call('HDEL', P .. 'sessions', flat[i])
    end
  end
  return ended
end

if new ~= '' and old == new then return { 'ok', end_sessions() } end
if not old then
  if ARGV[2] ~= '0' then return { new == '' and 'ok' or 'absent', 0 } end
  if new == '' then return { 'absent', 0 } end
  if call('HLEN', users) >= tonumber(ARGV[6]) then return { 'full', 0 } end
elseif ARGV[2] == '0' then
  return { 'exists', 0 }
else
  local was = cjson.decode(old)
  if was.version ~= tonumber(ARGV[2]) then return { 'moved', 0 } end
  local now = new ~= '' and cjson.decode(new) or { enabled = false }
  local administrates = now.enabled and now.role == 'admin'
  if ARGV[5] == '1' and was.enabled and was.role == 'admin' and not administrates then
    local left, flat = 0, call('HGETALL', users)
    for i = 1, #flat, 2 do
      local other = cjson.decode(flat[i + 1])
      if flat[i] ~= name and other.enabled and other.role == 'admin' then left = left + 1 end
    end
    if left == 0 then return { 'last', 0 } end
  end
end
if new == '' then
  call('HDEL', users, name)
  call('HDEL', P .. 'steps', name)
  call('HDEL', P .. 'last', name)
else
  call('HSET', users, name, new)
  call('DEL', P .. 'setup') -- with a user there, no token counts: not later either, when there is none again
end
return { 'ok', end_sessions() }
