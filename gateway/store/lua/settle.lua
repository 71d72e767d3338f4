#!lua flags=allow-oom
--@include _record
-- Record what became of claimed attempts, a batch at a time, and which SMSC id names which part.
--
-- Promise: each item is applied wholly or not at all; only the claim's owner moves a message: its record is `q` and bears
--   the time it was claimed with. A late `s` (the attempt was taken for lost meanwhile) still settles a message that waits
--   to be sent again. A message that its receipt ended before keeps its state and gets the attempt's log. SMSC ids are on
--   record in the same step, so that no receipt can miss them; receipts that came before are handed back.
-- Repeat: an applied item no longer finds its claim; it answers `0` and changes nothing.
-- KEYS 1 prefix
-- ARGV 1 incarnation  2-4 retention_s  5 TTL of SMSC ids, s  6 number of classes  7 number of items  8 number of claim
--   fields of which everything is settled already  9 '1' to count how channels do; then for each class 12 values:
--   attempt, verb, channel, delay_ms, mask of accepted parts, new rank, reason, carrier code, channel that alone is to take
--   it (or ''), ms after which it is redelivered without a receipt (0 never), price of a part (millionths), '1' when the
--   reason will hold the next time too; then for each item 3 values: class number, claim (id .. time), log (or ''); then those fields; then to the end for each
--   part that has an SMSC id 2 values: channel:smsc_id (canonical), id .. part
--   verbs: s submitted (delay: how long to wait for the receipt)  r again on this rank after delay  n on the new rank
--          N as n, attempt given back (it was the channel's fault)
--          l slow: again after delay, attempt given back  p some parts accepted: the rest again on this channel
--          P as p, attempt given back (the rest was only slow, or did not fit the window)
--          u uncertain, decided when delay is over  U uncertain, again at once  F failed for good
-- Returns  one letter an item in one string: 1 applied | l late result used | 0 nothing changed; then parked receipts
local inc = ARGV[1]
RETENTION[1], RETENTION[2], RETENTION[3] = ARGV[2], ARGV[3], ARGV[4]
local now = time_ms()
local now_text, now6 = log_time(now), be6(now)
local classes, at = {}, 10
local rated = ARGV[9] == '1'
for i = 1, tonumber(ARGV[6]) do
  classes[tostring(i)] = {
    attempt = tonumber(ARGV[at]), verb = ARGV[at + 1], channel = ARGV[at + 2],
    delay = ARGV[at + 3], mask = tonumber(ARGV[at + 4]), rank = ARGV[at + 5], reason = ARGV[at + 6], code = ARGV[at + 7], target = ARGV[at + 8],
    again = tonumber(ARGV[at + 9]), price = tonumber(ARGV[at + 10]), permanent = ARGV[at + 11],
  }
  at = at + 12
end
local first = at
local n, finished = tonumber(ARGV[7]), tonumber(ARGV[8])
local ids, keys = {}, {}
for i = 1, n do
  local id = sub(ARGV[first + i * 3 - 2], 1, ID)
  ids[i] = id
  keys[i] = P .. 'msg:' .. id
end
local raws = n > 0 and call('MGET', unpack(keys)) or {}
local answers, waits, due = {}, {}, {}
local wait_of = {} -- delay as text → list of ids, so that its bucket is worked out once

local function wait_for_receipt(id, delay)
  local list = wait_of[delay]
  if not list then
    local bucket = math.ceil((now + tonumber(delay)) / 300000) * 300
    list = waits[bucket] or {}
    waits[bucket] = list
    wait_of[delay] = list
  end
  list[#list + 1] = id
end

-- To be looked at when its receipt ought to have come (see overdue.lua), by 15 s.
local overdue = {}
local function redeliver_after(id, delay)
  local bucket = math.ceil((now + delay) / 15000) * 15
  local list = overdue[bucket] or {}
  overdue[bucket] = list
  list[#list + 1] = id
end

local function later(r, delay)
  due[#due + 1] = now + delay
  due[#due + 1] = r.id
end

local lost = {} -- channels with attempts of which nobody knows what became

local function bits(mask)
  local n = 0
  while mask > 0 do
    n, mask = n + mask % 2, floor(mask / 2)
  end
  return n
end

-- Count the parts that a carrier took now: `first` when the message counts as submitted by it in the same step.
local function count_taken(dims, marks, cat, before, cls, first)
  if marks % 2 == 1 then return end
  local parts = bits(bit.band(cls.mask, bit.bnot(before)))
  count_parts(counted_dims(dims, marks), cat, cls.channel, first and parts - 1 or parts, cls.price, parts)
end

-- Everything but the plain success of the claim's owner.
local function settle_rest(r, cls, item)
  local verb, channel, delay, mask = cls.verb, cls.channel, tonumber(cls.delay), cls.mask
  if mask > 0 then
    r.flags = bit.bor(r.flags, 8)
    count_taken(r.dims, r.marks, r.cat, r.accepted, cls, false)
    r.accepted = bit.bor(r.accepted, mask)
  end
  if verb == 'F' then
    finalise(r, has(r.flags, 1) and 'K' or 'F', cls.reason, cls.code, channel, now, item, cls.permanent)
  elseif (verb == 'u' or verb == 'U') and has(r.flags, 64) then -- a copy: not sent a third time
    lost[channel] = true
    r.state = 's'
    write_record(r, now, item)
    look_again(r, now, 600)
    count(r, channel, 'u', '')
  elseif verb == 'u' or verb == 'U' then
    lost[channel] = true
    r.flags = bit.bor(r.flags, verb == 'U' and 9 or 8)
    if r.accepted > 0 then r.flags = bit.bor(r.flags, 16) end -- the missing parts must follow the others
    if verb == 'U' then
      requeue(r, now, true, channel)
      waiting_delta = waiting_delta + 1
    else
      r.state = 'u'
      later(r, delay)
    end
    write_record(r, now, item)
    count(r, channel, 'u', '')
  else
    waiting_delta = waiting_delta + 1
    if verb == 'l' then
      r.attempt = r.attempt - 1
      r.slow = math.min(r.slow + 1, 255)
      item = nil -- a slow carrier may say so a hundred times; the log keeps attempts
    elseif verb == 'r' then
      r.slow = math.min(r.slow + 1, 255)
    elseif verb == 'n' or verb == 'N' then
      r.rank = tonumber(cls.rank)
      r.slow = 0
      if verb == 'N' then r.attempt = r.attempt - 1 end
      count(r, channel, 'n', cls.code)
    elseif verb == 'p' then
      r.flags = bit.bor(r.flags, 16)
      r.slow = math.min(r.slow + 1, 255)
    elseif verb == 'P' then
      r.slow = math.min(r.slow + 1, 255)
      r.attempt = r.attempt - 1
      if mask == 0 and has(r.flags, 16) then item = nil end -- the log names its channel already
      r.flags = bit.bor(r.flags, 16)
    end
    if delay > 0 then
      r.state = 'r'
      later(r, delay)
    elseif cls.target ~= '' then
      assign(r, now, cls.target)
    else
      requeue(r, now, false, channel)
    end
    write_record(r, now, item)
  end
end

local seen = {} -- the same message may stand twice in a batch: an answer and its late news
-- What statistics call a kind of count, kept by category and channel: putting the words together for each message costs more.
local submitted, costs = {}, {}
local function called(known, what, cat, channel)
  local by = known[cat]
  if not by then
    by = {}
    known[cat] = by
  end
  local suffix = by[channel]
  if not suffix then
    suffix = cat .. US .. channel .. US .. what .. US
    by[channel] = suffix
  end
  return suffix
end

local listens = anybody_listens()
for i = 1, n do
  local b = first + (i - 1) * 3
  local cls, id, log = classes[ARGV[b]], ids[i], ARGV[b + 2]
  local raw, verb = raws[i], cls.verb
  local item = log ~= '' and log_item('A', now_text .. US .. log) or nil
  local answer = '0'
  local t = raw and #raw - T
  if raw and not seen[id] and byte(raw, t + 1) == 113 and sub(raw, t + 13, t + 18) == sub(ARGV[b + 1], ID + 1) then
    answer = '1'
    seen[id] = true
    if verb == 's' then
      local _, rank, _, flags, d1, d2, v1, v2, a1, a2, worst = byte(raw, t + 1, t + 11)
      local mask = bit.bor(a1 * 256 + a2, cls.mask)
      local back = (item or '') .. 's' .. char(rank, cls.attempt, bit.bor(flags, 8), d1, d2, v1,
        v2, floor(mask / 256), mask % 256, worst, 0) .. now6 .. inc
      call('SETRANGE', keys[i], t, back)
      wait_for_receipt(id, cls.delay)
      if cls.again > 0 and flags < 64 then redeliver_after(id, cls.again) end
      local marks = byte(raw, 24)
      local ml, dl1, dl2 = byte(raw, 25, 27)
      local dims = sub(raw, 33 + ml, 32 + ml + dl1 * 256 + dl2)
      if marks % 2 == 0 then
        local cat = byte(raw, 22) - 48
        local labels = marks > 1 and counted_dims(dims, marks) or dims
        count_as(labels, called(submitted, 's', cat, cls.channel), 1)
        if cls.mask > 1 then
          count_taken(dims, marks, cat, a1 * 256 + a2, cls, true)
        elseif cls.price > 0 and cls.mask == 1 then
          count_as(labels, called(costs, '$', cat, cls.channel), cls.price)
        end
        if rated then rate(now, dims, cat, cls.channel, 's') end
      end
      if listens then
        local account = account_of(dims)
        if wanted(account, 's') then tell(account, 's', now, id, sub(raw, 1, t) .. back) end
      end
    else
      local r = read_record(id, raw)
      r.attempt, r.inc = cls.attempt, inc
      settle_rest(r, cls, item)
    end
  elseif raw and verb == 's' and not seen[id] then
    local r = read_record(id, raw)
    if find('DUREK', r.state, 1, true) and r.attempt < cls.attempt and r.worst ~= '-' then
      -- A receipt for an earlier part or attempt was faster and ended it: the log is left to write.
      answer = '1'
      seen[id] = true
      r.attempt, r.inc, r.flags = cls.attempt, inc, bit.bor(r.flags, 8)
      count_taken(r.dims, r.marks, r.cat, r.accepted, cls, true)
      r.accepted = bit.bor(r.accepted, cls.mask)
      write_record(r, r.state_at, item)
      count(r, cls.channel, 's', '')
    elseif (find('urf', r.state, 1, true) or r.state == 'q' and not held(r)) and r.attempt >= cls.attempt then
      -- Late: waits to be sent again (and nobody holds it), or is uncertain.
      answer = 'l'
      seen[id] = true
      if r.state ~= 'u' then waiting_delta = waiting_delta - 1 end
      -- The copy was never sent after all; whether an earlier attempt left one is not known any more.
      if r.attempt == 1 then r.flags = bit.band(r.flags, 254) end
      r.state = 's'
      r.flags = bit.bor(r.flags, 8)
      count_taken(r.dims, r.marks, r.cat, r.accepted, cls, true)
      r.accepted = bit.bor(r.accepted, cls.mask)
      write_record(r, now, item)
      wait_for_receipt(id, cls.delay)
      count(r, cls.channel, 's', '')
      local account = listens and account_of(r.dims)
      if account and wanted(account, 's') then
        local told = call('GET', keys[i]) -- an event names its attempt: not the one that came after it
        tell(account, 's', now, id, sub(told, 1, #told - T + 2) .. char(cls.attempt) .. sub(told, #told - T + 4))
      end
    end
  end
  answers[i] = answer
end
at = first + n * 3
if finished > 0 then call('HDEL', P .. 'claims:' .. inc, unpack(ARGV, at, at + finished - 1)) end

-- SMSC ids, and receipts that were here before them.
local result = { table.concat(answers) }
local pairs_at = at + finished
if pairs_at <= #ARGV then
  local parked = {} -- channel → whether it has parked receipts
  for _, cls in pairs(classes) do
    if parked[cls.channel] == nil then parked[cls.channel] = call('EXISTS', P .. 'parked:' .. cls.channel) == 1 end
  end
  for channel, some in pairs(parked) do
    local mine = channel .. ':'
    for i = some and pairs_at or #ARGV + 1, #ARGV, 2 do
      if sub(ARGV[i], 1, #mine) == mine then
        for _, payload in ipairs(call('LRANGE', P .. 'park:' .. ARGV[i], 0, -1)) do result[#result + 1] = payload end
      end
    end
  end
  local day = P .. 'corr:' .. floor(now / 86400000)
  for i = pairs_at, #ARGV, 2000 do call('HSET', day, unpack(ARGV, i, math.min(i + 1999, #ARGV))) end
  call('EXPIRE', day, ARGV[5] + 86400, 'NX')
end
if #due > 0 then call('ZADD', P .. 'due', unpack(due)) end
for bucket, list in pairs(waits) do call('RPUSH', P .. 'wait:' .. bucket, unpack(list)) end
for channel in pairs(lost) do lost_on(channel) end
for bucket, list in pairs(overdue) do call('RPUSH', P .. 'late:' .. bucket, unpack(list)) end
finish(now)
return result
