-- Shared by the moves that read or change a record (see gateway/store/records.py for the layout in full).
--
--   1-6 accepted_at  7-12 expires_at  13-18 due (send_at, 0 none)   big-endian epoch ms, written here from TIME
--   19-20 concatenation reference   21 version   22 category '0'..'2'   23 parts   24 flags (1 test)
--   25 length of msisdn   26-27 of dims   28-29 of extras   30-32 of body   33- msisdn dims extras body log trailer
--   dims:   account US carrier US route US template US campaign US variant        (US = 0x1f)
--   extras: sender US gate US tags (RS = 0x1e between them)
--
-- The trailer is the last T bytes, so that one SETRANGE at (length - T) appends to the log and changes the state:
--   1 state (`q` while a worker holds it too: see claim.lua)  2 rank  3 attempts used  4 flags (1 possible duplicate, 2 late correction, 4 caps given back,
--   8 bytes may have left, 16 pinned, 32 to be redelivered, 64 redelivered)  5-6 parts with a final receipt  7-8 parts delivered  9-10 parts accepted by
--   the SMSC  11 worst final state so far or '-'  12 retries without an attempt  13-18 state_at  19-26 incarnation
local P -- prefix of the shard, set by `begin`
local US, RS = '\31', '\30'
local T = 26
local ID = 16 -- bytes of a message id
local sub, byte, char, find, floor, call -- set by `begin`: a library sees no other names while it is loaded
local RETENTION = {} -- seconds a record is kept after its final state, by category; set by the including script

local function time_ms()
  local t = call('TIME')
  return t[1] * 1000 + floor(t[2] / 1000)
end

local function be6(n)
  local high = floor(n / 4294967296)
  local low = n - high * 4294967296
  local b3 = floor(low / 16777216)
  local b4 = floor(low / 65536) % 256
  return char(floor(high / 256) % 256, high % 256, b3, b4, floor(low / 256) % 256, low % 256)
end

local function de6(s, at)
  local a, b, c, d, e, f = byte(s, at, at + 5)
  return ((((a * 256 + b) * 256 + c) * 256 + d) * 256 + e) * 256 + f
end

-- A time as the log keeps it: base 36, 8 characters where decimal takes 13.
local DIGITS = '0123456789abcdefghijklmnopqrstuvwxyz'
local function log_time(n)
  local text = ''
  while n > 0 do
    local digit = n % 36
    text = sub(DIGITS, digit + 1, digit + 1) .. text
    n = (n - digit) / 36
  end
  return text
end

local function be2(n)
  return char(floor(n / 256) % 256, n % 256)
end

local function ms_text(n)
  return string.format('%.0f', n)
end

-- A record as a table. `head` fields only; the body is never looked at in a script.
local function read_record(id, raw)
  local t = #raw - T
  local state, rank, attempt, flags, d1, d2, v1, v2, a1, a2, worst, slow = byte(raw, t + 1, t + 12)
  local ml, dl1, dl2, el1, el2 = byte(raw, 25, 29)
  local dl = dl1 * 256 + dl2
  return {
    id = id, raw = raw, length = #raw, cat = byte(raw, 22) - 48, parts = byte(raw, 23), test = byte(raw, 24) % 2 == 1,
    accepted_at = de6(raw, 1), expires_at = de6(raw, 7), state_at = de6(raw, t + 13),
    msisdn = sub(raw, 33, 32 + ml), dims = sub(raw, 33 + ml, 32 + ml + dl),
    extras_at = 33 + ml + dl, extras_len = el1 * 256 + el2,
    state = char(state), rank = rank, attempt = attempt, flags = flags,
    done = d1 * 256 + d2, delivered = v1 * 256 + v2, accepted = a1 * 256 + a2,
    worst = char(worst), slow = slow, inc = sub(raw, t + 19, t + 26),
  }
end

local function fetch(ids)
  if #ids == 0 then return {} end
  local keys = {}
  for i = 1, #ids do keys[i] = P .. 'msg:' .. ids[i] end
  local raws = call('MGET', unpack(keys))
  local out = {}
  for i = 1, #ids do
    if raws[i] then out[i] = read_record(ids[i], raws[i]) else out[i] = false end
  end
  return out
end

local function trailer(r, now)
  return r.state .. char(r.rank, r.attempt, r.flags) .. be2(r.done) .. be2(r.delivered) .. be2(r.accepted)
    .. r.worst .. char(r.slow) .. be6(now) .. r.inc
end

-- Write the changed trailer, with an item appended to the log when there is one. A message that goes back into a queue
-- never keeps its time: claims tell by it whether they still hold (see `held`).
local function write_record(r, now, item)
  local tail = trailer(r, r.requeued and math.max(now, r.state_at + 1) or now)
  if item then
    call('SETRANGE', P .. 'msg:' .. r.id, r.length - T, item .. tail)
    r.length = r.length + #item
  else
    call('SETRANGE', P .. 'msg:' .. r.id, r.length - T, tail)
  end
end

-- A log item: kind, length of the payload (2 bytes), payload.
local function log_item(kind, payload)
  if #payload > 1000 then payload = sub(payload, 1, 1000) end
  return kind .. be2(#payload) .. payload
end

local function has(mask, bit)
  return floor(mask / bit) % 2 == 1
end

local function account_of(dims)
  return sub(dims, 1, find(dims, US, 1, true) - 1)
end

local function route_of(dims)
  local a = find(dims, US, 1, true)
  local b = find(dims, US, a + 1, true)
  return sub(dims, b + 1, find(dims, US, b + 1, true) - 1)
end

-- Claims: claims:<incarnation> has a field for each claim call and channel (token US channel) with an entry of 22 bytes
-- for each message: its id and the time in its record. An entry holds only as long as the record is `q` and bears that
-- time, so that ending a claim costs no write here; the field goes when the worker has settled all of it.
local CLAIM = 22
local function claim_of(id, raw)
  local t = #raw - T
  return id .. sub(raw, t + 13, t + 18)
end

-- The field of the claim call that holds a message: token US channel; nil when nobody does.
local everybodys_claims
local function holder(r)
  if not everybodys_claims then
    everybodys_claims = {}
    for _, inc in ipairs(call('SMEMBERS', P .. 'holders')) do
      local fields = call('HGETALL', P .. 'claims:' .. inc)
      for i = 1, #fields do everybodys_claims[#everybodys_claims + 1] = fields[i] end
    end
  end
  local entry = sub(claim_of(r.id, r.raw), 9) -- without the id's time, which many ids share: found faster
  for i = 2, #everybodys_claims, 2 do
    if find(everybodys_claims[i], entry, 1, true) then return everybodys_claims[i - 1] end
  end
end

local function held(r)
  return holder(r) ~= nil
end

-- Queues. A pinned message waits for its channel alone; all others for route, rank, category, account.
local function entry_of(r, now)
  return r.id .. be6(now) .. char(r.parts)
end

local woke
local function push(r, now, left)
  local name = route_of(r.dims) .. ':' .. r.rank .. ':' .. r.cat
  local account = account_of(r.dims)
  local key = 'q:' .. name .. ':' .. account
  local length = call(left and 'LPUSH' or 'RPUSH', P .. key, entry_of(r, now))
  if length == 1 then
    call('RPUSH', P .. 'ring:' .. name, account)
    call('SADD', P .. 'rings', name)
    woke = true
  end
end

-- Statistics: one HINCRBY a distinct field and batch, when the script ends. Two tables deep, because building the whole
-- field for each message costs more than all the rest of counting it.
local stats
local function count_as(dims, suffix, n)
  local by = stats[dims]
  if not by then
    by = {}
    stats[dims] = by
  end
  by[suffix] = (by[suffix] or 0) + n
end

local function count(r, channel, outcome, reason)
  if not r.test then count_as(r.dims, r.cat .. US .. channel .. US .. outcome .. US .. reason, 1) end
end

-- How channels do, by five minutes of submission, channel, carrier and category: `s` submitted, `D` delivered, `f` not
-- delivered, `o` not delivered for the message's own reason, `t<n>` receipts that took up to 2^n s, `k` `c` `x` feedback
-- (clicked, converted, complained). Kept for two hours. Nothing is counted where no route asks for it.
local quality
local function rate(at_ms, dims, cat, channel, what)
  local slot = floor(at_ms / 300000) * 300
  local by = quality[slot]
  if not by then
    by = {}
    quality[slot] = by
  end
  local a = find(dims, US, 1, true)
  local field = channel .. US .. sub(dims, a + 1, find(dims, US, a + 1, true) - 1) .. US .. cat .. US .. what
  by[field] = (by[field] or 0) + 1
end

local function rate_receipt(at_ms, dims, cat, channel, what, now)
  rate(at_ms, dims, cat, channel, what)
  local seconds, n = (now - at_ms) / 1000, 0
  while seconds > 1 and n < 18 do
    seconds, n = seconds / 2, n + 1
  end
  rate(at_ms, dims, cat, channel, 't' .. n)
end

-- Final records are removed by buckets of five minutes (see purge.lua): one push a batch instead of a TTL a key.
local gone
local function keep_until_purged(id, cat, now)
  local list = gone[cat]
  if list then list[#list + 1] = id else gone[cat] = { id } end
end

local waiting_delta

-- Write what the script has gathered. Returns the final states it made, for the caller's metrics: for each kind
-- RS <field of the statistics> US <number>, '' when there were none.
local function finish(now)
  local key = P .. 'stats:' .. floor(now / 3600000)
  local finals = {}
  for dims, by in pairs(stats) do
    for suffix, n in pairs(by) do
      local field = dims .. US .. suffix
      call('HINCRBY', key, field, n)
      if n > 0 and find(suffix, '^%d\31[^\31]*\31[DUREFCBK]\31') then finals[#finals + 1] = RS .. field .. US .. n end
    end
  end
  for cat, list in pairs(gone) do
    local bucket = math.ceil((now / 1000 + RETENTION[cat + 1]) / 300) * 300
    for i = 1, #list, 5000 do
      call('RPUSH', P .. 'gone:' .. bucket, unpack(list, i, math.min(i + 4999, #list)))
    end
  end
  for slot, by in pairs(quality) do
    local slot_key = P .. 'quality:' .. slot
    for field, n in pairs(by) do call('HINCRBY', slot_key, field, n) end
    call('EXPIRE', slot_key, 7200)
  end
  if waiting_delta ~= 0 then call('INCRBY', P .. 'waiting', waiting_delta) end
  if woke then call('PUBLISH', 'gw:wake', P) end
  return table.concat(finals)
end

-- Visit the ids that are filed in buckets whose time has come, in order, at most `most`; returns how many. A cursor says
-- which bucket is next; when the wall clock went back it follows, so that what is filed since is found.
local function visit_buckets(family, grain, most, now, visit)
  local now_s = floor(now / 1000)
  local current = floor(now_s / grain) * grain
  local key = P .. family .. ':cursor'
  local cursor = tonumber(call('GET', key) or current)
  local first, looked, steps = cursor, 0, 0
  if cursor > current + grain then cursor = current end
  while cursor <= now_s and looked < most and steps < 2000 do
    steps = steps + 1
    local ids = call('LPOP', P .. family .. ':' .. cursor, most - looked)
    if ids then
      looked = looked + #ids
      visit(ids)
    end
    if looked < most then cursor = cursor + grain end
  end
  if cursor ~= first or call('EXISTS', key) == 0 then call('SET', key, cursor) end
  return looked
end

-- Numbers: one hash for eight days (the longest cap is seven), the one before it is still read. A number's value:
--   1-2 concatenation reference  3-4 length of the caps  caps  ids of its latest messages (at most 16, oldest first)
--   caps: for each category and account: category, length of the account, account, number of times (2 bytes), times
--   (epoch seconds, 4 bytes each, oldest first)
local NUM_S = 691200
local function num_key(now, back)
  return P .. 'num:' .. (floor(now / 1000 / NUM_S) - back)
end

local function be4(n)
  local high = floor(n / 65536)
  local low = n - high * 65536
  return char(floor(high / 256) % 256, high % 256, floor(low / 256), low % 256)
end

-- Where the caps of a category and account stand in a number's value: their first time and how many, nil for none.
local function find_caps(value, cat, account)
  local l1, l2 = byte(value, 3, 4)
  local at, stop = 5, 4 + l1 * 256 + l2
  while at <= stop do
    local c, l = byte(value, at, at + 1)
    local n1, n2 = byte(value, at + 2 + l, at + 3 + l)
    local n = n1 * 256 + n2
    if c == cat and sub(value, at + 2, at + 1 + l) == account then return at + 4 + l, n end
    at = at + 4 + l + 4 * n
  end
end

local function time_at(value, at)
  local a, b, c, d = byte(value, at, at + 3)
  return ((a * 256 + b) * 256 + c) * 256 + d
end

-- The ids in a number's value, oldest first.
local function ids_of_number(value)
  local l1, l2 = byte(value, 3, 4)
  local ids = {}
  for at = 5 + l1 * 256 + l2, #value, ID do ids[#ids + 1] = sub(value, at, at + ID - 1) end
  return ids
end

-- SMSC ids: one hash a day, gone as a whole; a field (channel:smsc_id) leaves when its part was delivered.
-- Returns by place in `fields` what it names (id .. part) or false, and the key of its hash.
local function find_smsc_ids(fields, now, days)
  local today = floor(now / 86400000)
  local key = P .. 'corr:' .. today
  local values, places, missing = call('HMGET', key, unpack(fields)), {}, {}
  for i = 1, #fields do
    if values[i] then places[i] = key else missing[#missing + 1] = i end
  end
  for back = 1, days do
    if #missing == 0 then break end
    local names, left = {}, {}
    for k = 1, #missing do names[k] = fields[missing[k]] end
    key = P .. 'corr:' .. (today - back)
    local older = call('HMGET', key, unpack(names))
    for k = 1, #missing do
      local i = missing[k]
      if older[k] then
        values[i], places[i] = older[k], key
      else
        left[#left + 1] = i
      end
    end
    missing = left
  end
  return values, places
end

-- A message that was never sent gives its frequency caps back (one entry of its category and account).
local function give_back(r, now)
  if has(r.flags, 4) or has(r.flags, 8) then return end
  r.flags = r.flags + 4
  for back = 0, 1 do
    local key = num_key(now, back)
    local value = call('HGET', key, r.msisdn)
    local at, n = nil, 0
    if value then at, n = find_caps(value, r.cat, account_of(r.dims)) end
    local second = floor(r.accepted_at / 1000)
    for k = 0, n and n - 1 or -1 do
      if time_at(value, at + 4 * k) == second then
        local l1, l2 = byte(value, 3, 4)
        call('HSET', key, r.msisdn, sub(value, 1, 2) .. be2(l1 * 256 + l2 - 4) .. sub(value, 5, at - 3) .. be2(n - 1)
          .. sub(value, at, at + 4 * k - 1) .. sub(value, at + 4 * k + 4))
        return
      end
    end
  end
end

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
  local channel, state, reason, code
  each_item(raw, function(kind, payload)
    if kind == 'R' then
      local by, what, why, number = string.match(payload, '^[^\31]*\31[^\31]*\31([^\31]*)\31([^\31]*)\31([^\31]*)\31([^\31]*)')
      if what ~= 'D' then channel, state, reason, code = by, what, why, number end
    end
  end)
  return channel, state, reason, code
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

-- Put a message back where it is claimed from: its channel's pin queue while parts of it are out there, else its queue.
local function requeue(r, now, left, channel)
  r.state, r.requeued = 'q', true
  if has(r.flags, 16) then
    call('RPUSH', P .. 'pin:' .. (channel or last_channel(r)) .. ':' .. r.cat, entry_of(r, now))
    woke = true
  else
    push(r, now, left)
  end
end

-- Put a message where one channel alone claims it; see unpin.lua for what follows when that one goes away.
local function assign(r, now, channel)
  r.state, r.requeued = 'q', true
  call('RPUSH', P .. 'pin:' .. channel .. ':' .. r.cat, entry_of(r, now))
  woke = true
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
  local channel, state, reason, code = last_failure(r.raw)
  r.state = 's'
  if state and not elsewhere(r.raw, channel) then
    finalise(r, state, reason, code, channel, now, item)
  else
    write_record(r, now, item)
    look_again(r, now, 300) -- see wait.lua
  end
end

-- The final state: record, statistics, caps, retention. `unsent` states give the caps back.
function finalise(r, state, reason, code, channel, now, item)
  if has(r.flags, 64) and r.state ~= 's' then return drop_copy(r, now, item) end
  r.state = state
  if state ~= 'D' then give_back(r, now) end
  local why = log_item('X', log_time(now) .. US .. state .. US .. reason .. US .. code)
  write_record(r, now, (item or '') .. why)
  keep_until_purged(r.id, r.cat, now)
  count(r, channel, state, reason)
end

-- How channels of one rank share (see claim.lua), kept in the server's memory from call to call: losing it costs nothing.
local share_specs, share_specs_n = {}, 0
local credits, credits_n = {}, 0

-- Every move that shares this begins here: what the last call left behind is forgotten.
local function begin(prefix)
  P = prefix
  if not call then
    sub, byte, char, find, floor = string.sub, string.byte, string.char, string.find, math.floor
    call = redis.call
  end
  RETENTION[1], RETENTION[2], RETENTION[3] = nil, nil, nil
  stats, quality, gone, waiting_delta, woke, everybodys_claims = {}, {}, {}, 0, false, nil
end
