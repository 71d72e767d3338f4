#!lua flags=allow-oom
--@include _record
-- Do what was decided about messages whose redelivery was asked for.
--
-- Promise: an id leaves `redo` in the step that carries out the decision; a message gets one copy at most. Repeat: finds
--   the ids gone, or the record says that it has its copy.
-- KEYS 1 prefix   ARGV 1-3 retention_s, then for each 5 values: id, verb, rank, channel that alone is to take it (or ''),
--   delay ms
--   verbs: g go: a copy by that rank or channel  n not: the first attempt stands  w wait: ask again after the delay
-- Returns  one letter each in one string: g n w done | 0 nothing to do any more; final states
local now = time_ms()
RETENTION[1], RETENTION[2], RETENTION[3] = ARGV[1], ARGV[2], ARGV[3]
local answers = {}
for i = 4, #ARGV, 5 do
  local id, verb = ARGV[i], ARGV[i + 1]
  local answer = '0'
  if call('LREM', P .. 'redo', 1, id) > 0 then
    local r = fetch({ id })[1]
    if r and r.state == 's' and has(r.flags, 32) and not has(r.flags, 64) then
      -- What was uncertain once may have had its copy, and its entry of then may still stand in a queue.
      each_attempt(r.raw, function(_, _, _, outcome)
        if outcome == 'uncertain' then verb = 'n' end
      end)
      answer = verb
      if verb == 'g' then
        -- Parts that were delivered stay so; all are sent again, since a handset puts one channel's parts together.
        r.flags = bit.bor(bit.band(r.flags, 239), 65)
        r.accepted, r.done, r.worst, r.slow = 0, r.delivered, '-', 0
        r.rank = tonumber(ARGV[i + 2])
        if ARGV[i + 3] ~= '' then assign(r, now, ARGV[i + 3]) else requeue(r, now, false) end
        write_record(r, now)
        waiting_delta = waiting_delta + 1
        count(r, ARGV[i + 3], 'n', 'redelivery')
      else
        r.flags = r.flags - 32
        local channel, state, reason, code, permanent = last_failure(r.raw)
        if verb == 'w' then
          write_record(r, r.state_at)
          call('RPUSH', P .. 'late:' .. math.ceil((now + ARGV[i + 4]) / 15000) * 15, id)
        elseif state then
          finalise(r, state, reason, code, channel, now, nil, permanent)
        else
          write_record(r, r.state_at)
        end
      end
    end
  end
  answers[#answers + 1] = answer
end
return { table.concat(answers), finish(now) }
