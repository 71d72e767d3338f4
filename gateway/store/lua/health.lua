#!lua flags=allow-oom
-- The channels' breakers and what operators say of them, one state for all workers and machines.
--
-- Promise: open lasts at least HALF_MS; then probes go through, and it closes after ENOUGH of them went well and CLOSE_MS
--   after it opened, so that a flapping channel moves traffic at most twice a minute.
-- Repeat: an event that finds its state does nothing; probes may be counted twice, which closes it a little sooner.
-- An opening of a closed breaker and its closing are noted in the changes in the same step; a failed probe is neither.
-- KEYS 1 hash of all channels   2 stream of changes   ARGV triples: channel, event, number
--   events: open:<cause> | ok (number of good probes) | pause | drain | resume
-- Returns  now, then pairs: channel, "state,since,opened,probes,operator,cause" (times in ms)
local HALF_MS, CLOSE_MS, ENOUGH = 30000, 60000, 10
local MOST, KEEP_MS = 500, 604800000
local call = redis.call
local t = call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local all, changed = {}, {}
local flat = call('HGETALL', KEYS[1])

local function parse(text)
  local state, since, opened, probes, operator, cause =
    string.match(text, '^(%a+),(%d+),(%d+),(%d+),(%a+),(.*)$')
  return { state = state, since = tonumber(since), opened = tonumber(opened), probes = tonumber(probes),
    operator = operator, cause = cause }
end

local function note(...)
  call('XADD', KEYS[2], 'MAXLEN', MOST, '*', ...)
  call('XTRIM', KEYS[2], 'MINID', string.format('%.0f', now - KEEP_MS))
end

for i = 1, #flat, 2 do all[flat[i]] = parse(flat[i + 1]) end
for i = 1, #ARGV, 3 do
  local channel, event, n = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2])
  local c = all[channel] or { state = 'closed', since = now, opened = 0, probes = 0, operator = 'run', cause = '' }
  all[channel] = c
  if string.sub(event, 1, 5) == 'open:' and c.state ~= 'open' then
    if c.state == 'closed' then
      note('kind', 'breaker_open', 'object', channel, 'cause', string.sub(event, 6))
    end
    c.state, c.since, c.opened, c.probes, c.cause = 'open', now, now, 0, string.sub(event, 6)
    changed[channel] = true
  elseif event == 'ok' and c.state == 'half' then
    c.probes = c.probes + n
    changed[channel] = true
  elseif event == 'pause' or event == 'drain' or event == 'resume' then
    c.operator = event == 'resume' and 'run' or event
    changed[channel] = true
  end
end
local result = { string.format('%.0f', now) }
for channel, c in pairs(all) do
  if c.state == 'open' and (now - c.since >= HALF_MS or now < c.since) then
    c.state, c.since, c.probes = 'half', now, 0
    changed[channel] = true
  elseif c.state == 'half' and c.probes >= ENOUGH and (now - c.opened >= CLOSE_MS or now < c.opened) then
    note('kind', 'breaker_closed', 'object', channel, 'cause', c.cause, 'ms', string.format('%.0f', now - c.opened))
    c.state, c.since, c.cause = 'closed', now, ''
    changed[channel] = true
  end
  local text = string.format('%s,%.0f,%.0f,%d,%s,%s', c.state, c.since, c.opened, c.probes, c.operator, c.cause)
  if changed[channel] then call('HSET', KEYS[1], channel, text) end
  result[#result + 1] = channel
  result[#result + 1] = text
end
return result
