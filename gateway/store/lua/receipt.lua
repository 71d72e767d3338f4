#!lua flags=allow-oom
--@include _record
-- Apply final receipts to their messages, a batch at a time.
--
-- Promise: the first final receipt of a part counts; the message is final when all its parts are, with the worst state.
--   Only `unknown` and `expired` are corrected, to `delivered`. A receipt whose address is not the message's changes
--   nothing. Repeat: a part that is done answers `d`.
-- KEYS 1 prefix
-- ARGV 1-3 retention_s  4 number of classes, then for each class 5 values: part (from 0), channel, state letter, reason,
--   carrier code; then for each item 3 values: class number, id, address digits (or '')
-- Returns  for each item, and last the final states made (see `finish`): f final | p part noted | d duplicate | c corrected | m no such record | q wrong address
RETENTION[1], RETENTION[2], RETENTION[3] = ARGV[1], ARGV[2], ARGV[3]
local now = time_ms()
local now_text, now6 = log_time(now), be6(now)
local classes, first = {}, 5
for i = 1, tonumber(ARGV[4]) do
  local part, channel, state, reason, code = unpack(ARGV, first, first + 4)
  classes[i] = {
    part = tonumber(part), channel = channel, state = state, reason = reason,
    item = log_item('R', now_text .. US .. part .. US .. channel .. US .. state .. US .. reason .. US .. code),
  }
  first = first + 5
end
local n = (#ARGV - first + 1) / 3
local ids, place = {}, {}
for i = 1, n do
  local id = ARGV[first + (i - 1) * 3 + 1]
  if not place[id] then
    ids[#ids + 1] = id
    place[id] = #ids
  end
end
local keys = {}
for i = 1, #ids do keys[i] = P .. 'msg:' .. ids[i] end
local raws = call('MGET', unpack(keys))
local records = {} -- those that take the long way, by place: one record may have several items
local worse = { D = 1, K = 2, E = 3, U = 4, R = 5 }
local result = {}

-- Every case but the plain one.
local function apply(r, part, channel, state, reason, item)
  local mask = 2 ^ part
  local closed = find('DUREKCFB', r.state, 1, true)
  if find('CFB', r.state, 1, true) then return 'd' end
  if has(r.done, mask) and not (state == 'D' and not has(r.delivered, mask) and closed) then return 'd' end
  if not has(r.done, mask) then
    r.done = r.done + mask
    if r.worst == '-' or worse[state] > worse[r.worst] then r.worst = state end
  end
  if state == 'D' then r.delivered = bit.bor(r.delivered, mask) end
  local all = 2 ^ r.parts - 1
  if closed then
    -- Closed before this receipt: only unknown and expired are corrected, when every part is delivered.
    local answer = 'd'
    if (r.state == 'K' or r.state == 'E') and r.delivered == all then
      if not r.test then
        count_as(r.dims, r.cat .. US .. channel .. US .. r.state .. US .. 'late_correction', -1)
      end
      r.state, r.worst = 'D', 'D'
      r.flags = bit.bor(r.flags, 2)
      count(r, channel, 'D', 'late_correction')
      answer = 'c'
    end
    write_record(r, now, item)
    return answer
  end
  -- A copy that waits is cancelled by this; one that a worker holds no longer counts as waiting.
  local waits = find('rhfw', r.state, 1, true) or (r.state == 'q' and not held(r.id))
  r.flags = bit.bor(r.flags, 8)
  if r.done == all then
    if waits then waiting_delta = waiting_delta - 1 end
    r.state = r.worst
    write_record(r, now, item)
    keep_until_purged(r.id, r.cat, now)
    count(r, channel, r.state, reason)
    return 'f'
  end
  write_record(r, now, item)
  return 'p'
end

local final = {} -- category → channel → state → reason → what statistics call it
local function final_as(cat, channel, state, reason)
  local key = state .. reason
  local by = final[channel]
  if not by then
    by = { [0] = {}, {}, {} }
    final[channel] = by
  end
  local suffix = by[cat][key]
  if not suffix then
    suffix = cat .. US .. channel .. US .. state .. US .. reason
    by[cat][key] = suffix
  end
  return suffix
end

local touched = {}
for i = 1, n do
  local b = first + (i - 1) * 3
  local cls, address = classes[tonumber(ARGV[b])], ARGV[b + 2]
  local at = place[ARGV[b + 1]]
  local raw = raws[at]
  local channel, state, reason, item = cls.channel, cls.state, cls.reason, cls.item
  local ml = raw and byte(raw, 25)
  if not raw then
    result[i] = 'm'
  elseif address ~= '' and sub(raw, 25 + ml, 32 + ml) ~= sub(address, -8) then
    result[i] = 'q'
  else
    local t = #raw - T
    local was, rank, attempt, flags, d1, d2, _, _, a1, a2, _, slow = byte(raw, t + 1, t + 12)
    if was == 115 and byte(raw, 23) == 1 and not touched[at] and d1 == 0 and d2 == 0 then
      -- The plain case: one part, submitted, its first receipt.
      touched[at] = true
      call('SETRANGE', keys[at], t, item .. state .. char(rank, attempt, bit.bor(flags, 8), 0, 1, 0,
        state == 'D' and 1 or 0, a1, a2) .. state .. char(slow) .. now6 .. sub(raw, t + 19))
      local cat = byte(raw, 22) - 48
      keep_until_purged(ids[at], cat, now)
      if byte(raw, 24) % 2 == 0 then
        local dl1, dl2 = byte(raw, 26, 27)
        count_as(sub(raw, 33 + ml, 32 + ml + dl1 * 256 + dl2), final_as(cat, channel, state, reason), 1)
      end
      result[i] = 'f'
    else
      if touched[at] == true then
        records[at] = read_record(ids[at], call('GET', keys[at]))
      elseif not records[at] then
        records[at] = read_record(ids[at], raw)
      end
      touched[at] = 'long'
      result[i] = apply(records[at], cls.part, channel, state, reason, item)
    end
  end
end
result[n + 1] = finish(now)
return result
