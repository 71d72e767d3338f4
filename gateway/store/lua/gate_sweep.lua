#!lua flags=allow-oom
--@include _record
-- End a slice of the messages that wait under a closed gate: scheduled, deferred, queued, to be retried, held aside.
--
-- Promise: a message ends as a cancel would end it, in the step that counts it and moves the sweep's position; a claim that
--   meets it first ends it instead (claim.lua), so none is counted twice. What a worker holds is left alone. Where the
--   gate is not closed any more the sweep ends. A pass that closed something is followed by another one, for what moved
--   between places meanwhile. Repeat: goes on with the rest.
-- KEYS 1 prefix   ARGV 1 name  2 most entries to look at  3 most messages to end  4-6 retention_s
-- Returns  1 when the sweep is over, entries looked at, messages ended, final states
RETENTION[1], RETENTION[2], RETENTION[3] = ARGV[4], ARGV[5], ARGV[6]
local now = time_ms()
local name, most, most_closed = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local key = P .. 'gatesweep:' .. name
if call('SISMEMBER', P .. 'gatesweeps', name) == 0 then return { 1, 0, 0, '' } end
if call('HGET', P .. 'gates', name) ~= 'closed' then
  call('SREM', P .. 'gatesweeps', name)
  call('DEL', key)
  return { 1, 0, 0, '' }
end
local is_under = gate_test(name)
local saved = call('HMGET', key, 'at', 'channels', 'pass_closed', 'passes')
local of_place = { ['1'] = 'hfr', ['2'] = 'q', ['3'] = 'q', ['4'] = 'w' }
local busy -- what workers hold, looked up only for what may stand in two places
local function in_hands(r)
  -- A message that was never tried has one entry, and a claim takes that out of its queue.
  if r.attempt == 0 and r.flags == 0 and r.slow == 0 then return false end
  if not busy then
    busy = {}
    for _, inc in ipairs(call('SMEMBERS', P .. 'holders')) do
      for _, entries in ipairs(call('HVALS', P .. 'claims:' .. inc)) do
        for at = 1, #entries, CLAIM do busy[sub(entries, at, at + CLAIM - 1)] = true end
      end
    end
  end
  return busy[claim_of(r.id, r.raw)]
end

local closed, ended = 0, 0
local at, looked = walk(name, saved[2] or '', saved[1] or '', most, 0, now, function(id, state, kind)
  if state == '' or find(state, '%u') then return 'gone' end
  if not find(of_place[kind], state, 1, true) then
    -- An entry of a queue counts only as long as its message is queued; in `due` others wait for their time.
    return kind == '1' and 'stays' or 'gone'
  end
  local front, dims, extras = front_of(id)
  if not is_under(front, dims, extras) then return 'stays' end
  if ended >= most_closed then return 'stop' end
  local r = fetch({ id })[1]
  if state == 'q' and in_hands(r) then return 'stays' end
  ended = ended + 1
  waiting_delta = waiting_delta - 1
  if close_by_gate(r, now) then closed = closed + 1 end
  return 'gone'
end)
local pass_closed = tonumber(saved[3] or '0') + closed
if closed > 0 then
  call('HINCRBY', P .. 'gatecount', name .. US .. 'closed', closed)
  call('HINCRBY', key, 'closed', closed)
end
call('HINCRBY', key, 'looked', looked)
local over = 0
if at == '' then
  call('HINCRBY', key, 'passes', 1)
  if pass_closed == 0 or tonumber(saved[4] or '0') >= 4 then
    over = 1
    call('SREM', P .. 'gatesweeps', name)
    call('HSET', key, 'ended', ms_text(now))
  else
    local total = call('HGET', key, 'looked')
    for _, place in ipairs(places_of(name, saved[2] or '', '', 0, now)) do total = total + length_of(place, name) end
    call('HSET', key, 'total', total)
    pass_closed = 0
  end
end
call('HSET', key, 'at', at, 'pass_closed', pass_closed)
return { over, looked, ended, finish(now) }
