-- Included by the scripts that read or change a record (see gateway/store/records.py for the layout in full).
--
--   1-6 accepted_at  7-12 expires_at  13-18 due (send_at, 0 none)   big-endian epoch ms, written here from TIME
--   19-20 concatenation reference   21 version   22 category '0'..'2'   23 parts   24 flags (1 test)
--   25 length of msisdn   26-27 of dims   28-29 of extras   30-32 of body   33- msisdn dims extras body log trailer
--   dims:   account US carrier US route US template US campaign US variant        (US = 0x1f)
--   extras: sender US gate US tags (RS = 0x1e between them)
--
-- The trailer is the last T bytes, so that one SETRANGE at (length - T) appends to the log and changes the state:
--   1 state (`q` while a worker holds it too: see claim.lua)  2 rank  3 attempts used  4 flags (1 possible duplicate, 2 late correction, 4 caps given back,
--   8 bytes may have left, 16 pinned)  5-6 parts with a final receipt  7-8 parts delivered  9-10 parts accepted by
--   the SMSC  11 worst final state so far or '-'  12 retries without an attempt  13-18 state_at  19-26 incarnation
local P = KEYS[1]
local US, RS = '\31', '\30'
local T = 26
local sub, byte, char, find = string.sub, string.byte, string.char, string.find
local floor = math.floor
local call = redis.call
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
    accepted_at = de6(raw, 1), expires_at = de6(raw, 7),
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

-- Write the changed trailer, with an item appended to the log when there is one.
local function write_record(r, now, item)
  local tail = trailer(r, now)
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

-- Whether a worker holds the message: it is `q` and stands in somebody's claims. Looked at on rare paths only.
local function held(id)
  for _, inc in ipairs(call('SMEMBERS', P .. 'holders')) do
    if call('HEXISTS', P .. 'claims:' .. inc, id) == 1 then return true end
  end
  return false
end

-- Queues. A pinned message waits for its channel alone; all others for route, rank, category, account.
local function entry_of(r, now)
  return r.id .. be6(now) .. char(r.parts)
end

local woke = false
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
local stats = {}
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

-- Final records are removed by buckets of five minutes (see purge.lua): one push a batch instead of a TTL a key.
local gone = {}
local function keep_until_purged(id, cat, now)
  local list = gone[cat]
  if list then list[#list + 1] = id else gone[cat] = { id } end
end

local waiting_delta = 0

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

-- Numbers: one hash for eight days (the longest cap is seven), the one before it is still read. A number's value has the
-- lines r<reference>, c<category>US<account>US<second>,... and i<id>US<account>.
local NUM_S = 691200
local function num_key(now, back)
  return P .. 'num:' .. (floor(now / 1000 / NUM_S) - back)
end

-- Correlations: one hash a day, gone after ARGV's TTL; those whose receipt was final stand for an hour or two in `done`.
local function find_smsc_ids(fields, now, days)
  local found, missing, at = {}, fields, {}
  for i = 1, #fields do at[i] = i end
  local today, hour = floor(now / 86400000), floor(now / 3600000)
  local places = { P .. 'corr:' .. today, P .. 'done:' .. hour, P .. 'done:' .. (hour - 1) }
  for back = 1, days do places[#places + 1] = P .. 'corr:' .. (today - back) end
  for p = 1, #places do
    if #missing == 0 then break end
    local values = call('HMGET', places[p], unpack(missing))
    local left, left_at = {}, {}
    for i = 1, #missing do
      if values[i] then
        found[at[i]] = { values[i], places[p] }
      else
        left[#left + 1] = missing[i]
        left_at[#left_at + 1] = at[i]
      end
    end
    missing, at = left, left_at
  end
  return found
end

-- A message that was never sent gives its frequency caps back (one entry of its category and account).
local function give_back(r, now)
  if has(r.flags, 4) or has(r.flags, 8) then return end
  r.flags = r.flags + 4
  for back = 0, 1 do
    local key = num_key(now, back)
    local value = call('HGET', key, r.msisdn)
    local head = 'c' .. r.cat .. US .. account_of(r.dims) .. US
    local at = value and find(value, head, 1, true)
    if at then
      local stop = find(value, '\n', at, true)
      local line = sub(value, at + #head, stop - 1)
      local second = floor(r.accepted_at / 1000) .. ','
      local from = find(line, second, 1, true)
      if from then
        line = sub(line, 1, from - 1) .. sub(line, from + #second)
        call('HSET', key, r.msisdn, sub(value, 1, at - 1) .. head .. line .. sub(value, stop))
        return
      end
    end
  end
end

-- The channel of the last attempt in the log ('' when there was none).
local function last_channel(r)
  local b1, b2, b3 = byte(r.raw, 30, 32)
  local at = r.extras_at + r.extras_len + (b1 * 256 + b2) * 256 + b3
  local stop, channel = r.length - T, ''
  while at < stop do
    local h, l = byte(r.raw, at + 1, at + 2)
    local size = h * 256 + l
    if sub(r.raw, at, at) == 'A' then
      channel = string.match(sub(r.raw, at + 3, at + 2 + size), '^[^\31]*\31[^\31]*\31([^\31]*)') or channel
    end
    at = at + 3 + size
  end
  return channel
end

-- Put a message back where it is claimed from: its channel's pin queue while parts of it are out there, else its queue.
local function requeue(r, now, left, channel)
  r.state = 'q'
  if has(r.flags, 16) then
    call('RPUSH', P .. 'pin:' .. (channel or last_channel(r)) .. ':' .. r.cat, entry_of(r, now))
    woke = true
  else
    push(r, now, left)
  end
end

-- The final state: record, statistics, caps, retention. `unsent` states give the caps back.
local function finalise(r, state, reason, code, channel, now, item)
  r.state = state
  if state ~= 'D' then give_back(r, now) end
  local why = log_item('X', log_time(now) .. US .. state .. US .. reason .. US .. code)
  write_record(r, now, (item or '') .. why)
  keep_until_purged(r.id, r.cat, now)
  count(r, channel, state, reason)
end
