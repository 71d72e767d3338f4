-- Visit the items of the log: kind and payload.
local function each_item(raw, visit)
  local el1, el2, b1, b2, b3 = byte(raw, 28, 32)
  local ml, dl1, dl2 = byte(raw, 25, 27)
  local at = 33 + ml + dl1 * 256 + dl2 + el1 * 256 + el2 + (b1 * 256 + b2) * 256 + b3
  local stop = #raw - T
  while at < stop do
    local h, l = byte(raw, at + 1, at + 2)
    local size = h * 256 + l
    visit(sub(raw, at, at), sub(raw, at + 3, at + 2 + size))
    at = at + 3 + size
  end
end

-- Visit the attempts in the log: the channel of each, its SMSC ids as `part=id` with commas between, its number and outcome.
local function each_attempt(raw, visit)
  each_item(raw, function(kind, payload)
    if kind == 'A' then
      local number, channel, outcome, ids = string.match(payload,
        '^[^\31]*\31([^\31]*)\31([^\31]*)\31?[^\31]*\31?([^\31]*)\31?([^\31]*)')
      if channel then visit(channel, ids, number, outcome) end
    end
  end)
end

-- Note that a channel has attempts of which nobody knows what became: its parked receipts may be theirs.
local LOST_S = 900
local function lost_on(channel)
  call('SET', P .. 'lost:' .. channel, '', 'EX', LOST_S)
end

-- The first attempt on a channel of which nobody knows what became, and how many there are.
local function uncertain_attempt(raw, channel)
  local open, first, n = {}, nil, 0
  each_attempt(raw, function(by, _, number, outcome)
    open[number] = by == channel and outcome == 'uncertain' or nil -- what is said later of an attempt counts
  end)
  for number in pairs(open) do
    n = n + 1
    if not first or tonumber(number) < tonumber(first) then first = number end
  end
  return first, n
end

-- The last receipt in the log that says a part was not delivered: channel, state, reason, code; nil when there is none.
local function last_failure(raw)
  local channel, state, reason, code, permanent
  each_item(raw, function(kind, payload)
    if kind == 'R' then
      local by, what, why, number, lasting = string.match(payload,
        '^[^\31]*\31[^\31]*\31([^\31]*)\31([^\31]*)\31([^\31]*)\31([^\31]*)\31?([^\31]*)')
      if what ~= 'D' then channel, state, reason, code, permanent = by, what, why, number, lasting end
    end
  end)
  return channel, state, reason, code, permanent
end

-- Why the first part ended that did so in a state, by its receipt: reason, code, permanent (nil: none did). Where several
-- channels say so, that one counts which said it last: what others said before did not end the message (`record_log.why`).
local function reason_of(raw, state)
  local first, last = {}, nil
  each_item(raw, function(kind, payload)
    if kind == 'R' then
      local by, what, why, code, lasting = string.match(payload,
        '^[^\31]*\31[^\31]*\31([^\31]*)\31([^\31]*)\31([^\31]*)\31([^\31]*)\31?([^\31]*)')
      if what == state then first[by], last = first[by] or { why, code, lasting }, by end
    end
  end)
  if last then return unpack(first[last]) end
end

-- What a message that is final was counted as: channel and reason. What receipts said after its end (X) counted nowhere.
local function counted_as(raw, state)
  local channel, reason = '', nil
  each_item(raw, function(kind, payload)
    if reason then
    elseif kind == 'X' then
      reason, channel = string.match(payload, '^[^\31]*\31[^\31]*\31([^\31]*)\31[^\31]*\31?([^\31]*)')
    elseif kind == 'R' then
      channel = string.match(payload, '^[^\31]*\31[^\31]*\31([^\31]*)')
    end
  end)
  return channel, reason or reason_of(raw, state) or ''
end

-- Whether another channel than `but` took the message, or may have, and no receipt of a failure came from there.
local function elsewhere(raw, but)
  local open, some = {}, false
  each_item(raw, function(kind, payload)
    if kind == 'A' then
      local channel, outcome = string.match(payload, '^[^\31]*\31[^\31]*\31([^\31]*)\31?[^\31]*\31?([^\31]*)')
      if outcome == '' or outcome == 'uncertain' then open[channel] = true end
    elseif kind == 'R' then
      local channel, what = string.match(payload, '^[^\31]*\31[^\31]*\31([^\31]*)\31([^\31]*)')
      if what ~= 'D' then open[channel] = nil end
    end
  end)
  for channel in pairs(open) do some = some or channel ~= but end
  return some
end

-- The channel of the last attempt in the log ('' when there was none).
local function last_channel(r)
  local last = ''
  each_attempt(r.raw, function(channel) last = channel end)
  return last
end

-- Put a message where its channel alone claims it. The channel is noted: it may leave the configuration meanwhile.
local function pin(r, now, channel)
  call('RPUSH', P .. 'pin:' .. channel .. ':' .. r.cat, entry_of(r, now))
  call('SADD', P .. 'pins', channel)
  woke = true
end

-- Put a message back where it is claimed from: its channel's pin queue while parts of it are out there, else its queue.
local function requeue(r, now, left, channel)
  r.state, r.requeued = 'q', true
  if has(r.flags, 16) then
    pin(r, now, channel or last_channel(r))
  else
    push(r, now, left)
  end
end

-- Put a message where one channel alone claims it; see unpin.lua for what follows when that one goes away.
local function assign(r, now, channel)
  r.state, r.requeued = 'q', true
  pin(r, now, channel)
end

-- When the receipts of a message that was redelivered have had their time: nil when nothing is waited for any more.
--   What was accepted last has `wait` ms from then. Where that failed, an attempt before it has five minutes more.
local function receipts_end(raw, wait)
  local order, at_of, failed_at = {}, {}, {}
  each_item(raw, function(kind, payload)
    if kind == 'A' then
      local at, channel, outcome = string.match(payload, '^([^\31]*)\31[^\31]*\31([^\31]*)\31?[^\31]*\31?([^\31]*)')
      if outcome == '' or outcome == 'uncertain' then
        order[#order + 1] = channel
        at_of[channel], failed_at[channel] = tonumber(at, 36), nil
      end
    elseif kind == 'R' then
      local at, channel, what = string.match(payload, '^([^\31]*)\31[^\31]*\31([^\31]*)\31([^\31]*)')
      if what ~= 'D' then failed_at[channel] = tonumber(at, 36) end
    end
  end)
  local last = order[#order]
  if not last then return nil end
  if not failed_at[last] then return at_of[last] + wait end
  for _, channel in ipairs(order) do
    if not failed_at[channel] then return failed_at[last] + 300000 end
  end
  return nil
end

-- When a channel took a message (ms), by its log.
local function taken_at(raw, channel)
  local found = nil
  each_item(raw, function(kind, payload)
    if kind == 'A' then
      local at, by, outcome = string.match(payload, '^([^\31]*)\31[^\31]*\31([^\31]*)\31?[^\31]*\31?([^\31]*)')
      if by == channel and outcome == '' then found = tonumber(at, 36) end
    end
  end)
  return found
end

-- Whether a receipt of a part from a channel that says `state` is in the log.
local function told(raw, channel, part, state)
  local known = false
  each_item(raw, function(kind, payload)
    if kind == 'R' then
      local number, by, what = string.match(payload, '^[^\31]*\31([^\31]*)\31([^\31]*)\31([^\31]*)')
      known = known or (tonumber(number) == part and by == channel and what == state)
    end
  end)
  return known
end

-- Look at a submitted message again in `seconds`, whether its receipt has come (see wait.lua).
local function look_again(r, now, seconds)
  call('RPUSH', P .. 'wait:' .. math.ceil((now / 1000 + seconds) / 300) * 300, r.id)
end

-- A copy on another channel that came to nothing: the first attempt stands. What its receipt said is the end of the
-- message; without one it waits on.
local finalise
local function drop_copy(r, now, item)
  local channel, state, reason, code, permanent = last_failure(r.raw)
  r.state = 's'
  if state and not elsewhere(r.raw, channel) then
    finalise(r, state, reason, code, channel, now, item, permanent)
  else
    write_record(r, now, item)
    look_again(r, now, 300) -- see wait.lua
  end
end

-- What follows a final state once the record says so: it is removed one day, its text may go now, its account hears of it.
local function ended(r, now)
  keep_until_purged(r.id, r.cat, now)
  local erase, listens = erases(r.cat), anybody_listens() and wanted(account_of(r.dims), 'f')
  if erase or listens then
    local raw = call('GET', P .. 'msg:' .. r.id)
    if listens then tell(account_of(r.dims), 'f', now, r.id, raw) end
    if erase then
      raw = without_text(raw)
      call('SET', P .. 'msg:' .. r.id, raw)
      r.raw, r.length = raw, #raw
    end
  end
end

-- The final state: record, statistics, caps, retention, event. `unsent` states give the caps back. `permanent` ('1'): the
-- carrier's reason will hold the next time too.
function finalise(r, state, reason, code, channel, now, item, permanent)
  if has(r.flags, 64) and r.state ~= 's' then return drop_copy(r, now, item) end
  r.state = state
  if state ~= 'D' then give_back(r, now) end
  local why = log_time(now) .. US .. state .. US .. reason .. US .. code .. US .. channel
  if permanent == '1' then why = why .. US .. '1' end
  write_record(r, now, (item or '') .. log_item('X', why))
  count(r, channel, state, state == 'D' and 't' .. doublings(now - (taken_at(r.raw, channel) or now)) or reason)
  note_end(r, channel, reason, code)
  ended(r, now)
end
