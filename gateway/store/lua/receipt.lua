#!lua flags=allow-oom
--@include _record
-- Apply final receipts to their messages, a batch at a time.
--
-- Promise: the first final receipt of a part counts; the message is final when all its parts are, with the worst state.
--   Only `unknown` and `expired` are corrected, to `delivered`. A receipt whose address is not the message's changes
--   nothing. Repeat: a part that is done answers `d`.
-- KEYS 1 prefix
-- ARGV 1-3 retention_s  then for each item 7 values: id, part (from 0), channel, state letter, address digits (or ''),
--   reason, carrier code
-- Returns  for each item: f final | p part noted | d duplicate | c corrected | m no such record | q wrong address
RETENTION[1], RETENTION[2], RETENTION[3] = ARGV[1], ARGV[2], ARGV[3]
local now = time_ms()
local n = (#ARGV - 3) / 7
local ids, place = {}, {}
for i = 1, n do
  local id = ARGV[4 + (i - 1) * 7]
  if not place[id] then
    ids[#ids + 1] = id
    place[id] = #ids
  end
end
local records = fetch(ids)
local worse = { D = 1, K = 2, E = 3, U = 4, R = 5 }
local result = {}
for i = 1, n do
  local b = 4 + (i - 1) * 7
  local r = records[place[ARGV[b]]]
  local part, channel, state, address = tonumber(ARGV[b + 1]), ARGV[b + 2], ARGV[b + 3], ARGV[b + 4]
  local answer
  if not r then
    answer = 'm'
  elseif address ~= '' and sub(r.msisdn, -8) ~= sub(address, -8) then
    answer = 'q'
  else
    local bitmask = 2 ^ part
    local item = log_item('R', ms_text(now) .. US .. part .. US .. channel .. US .. state .. US .. ARGV[b + 5] .. US
      .. ARGV[b + 6])
    if has(r.done, bitmask) or find('CFB', r.state, 1, true) then
      answer = 'd'
      if state == 'D' and not has(r.delivered, bitmask) and (r.state == 'K' or r.state == 'E')
        and r.worst ~= 'U' and r.worst ~= 'R' then
        r.delivered = r.delivered + bitmask
        if r.delivered == 2 ^ r.parts - 1 then
          local was = r.state
          r.state, r.worst = 'D', 'D'
          r.flags = bit.bor(r.flags, 2)
          count(r, channel, 'D', 'late_correction')
          if not r.test then
            local field = r.dims .. US .. r.cat .. US .. channel .. US .. was .. US .. 'late_correction'
            stats[field] = (stats[field] or 0) - 1
          end
          answer = 'c'
        end
        write_record(r, now, item)
      end
    else
      r.done = r.done + bitmask
      if state == 'D' then r.delivered = r.delivered + bitmask end
      if r.worst == '-' or worse[state] > worse[r.worst] then r.worst = state end
      if find('DUREK', r.state, 1, true) then
        -- Closed before its receipt: unknown or expired become delivered when every part is.
        answer = 'd'
        if (r.state == 'K' or r.state == 'E') and r.delivered == 2 ^ r.parts - 1 then
          local was = r.state
          r.state = 'D'
          r.flags = bit.bor(r.flags, 2)
          count(r, channel, 'D', 'late_correction')
          if not r.test then
            local field = r.dims .. US .. r.cat .. US .. channel .. US .. was .. US .. 'late_correction'
            stats[field] = (stats[field] or 0) - 1
          end
          answer = 'c'
        end
        write_record(r, now, item)
      elseif r.done == 2 ^ r.parts - 1 then
        if find('qrhfw', r.state, 1, true) then waiting_delta = waiting_delta - 1 end
        r.flags = bit.bor(r.flags, 8)
        r.state = r.worst
        write_record(r, now, item)
        call('EXPIRE', P .. 'msg:' .. r.id, RETENTION[r.cat + 1])
        count(r, channel, r.state, ARGV[b + 5])
        answer = 'f'
      else
        r.flags = bit.bor(r.flags, 8)
        write_record(r, now, item)
        answer = 'p'
      end
    end
  end
  result[i] = answer
end
finish(now)
return result
