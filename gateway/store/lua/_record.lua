-- Shared by the moves that read or change a record (see gateway/store/records.py for the layout in full).
--
--   1-6 accepted_at  7-12 expires_at  13-18 due (send_at, 0 none)   big-endian epoch ms, written here from TIME
--   19-20 concatenation reference   21 version   22 category '0'..'2'   23 parts   24 flags (1 test, 2 counted as `other`, see
--   `counted_dims`, 4 has a window, 8 deferred when it was accepted, 16 by a cap: it counts for its due time)
--   25 length of msisdn   26-27 of dims   28-29 of extras   30-32 of body   33- msisdn dims extras body log trailer
--   dims:   account US carrier US route US template US campaign US variant        (US = 0x1f)
--   extras: sender US gate US tags (RS = 0x1e between them), and where one of the two is used also US signature US the end
--   of the window in which it may be sent (as the log writes times, '' none)
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
local RETENTION = {} -- seconds a record is kept after its final state, by category, with an `e` behind where its text is
-- cut out then; set by the including script

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
    id = id, raw = raw, length = #raw, cat = byte(raw, 22) - 48, parts = byte(raw, 23), marks = byte(raw, 24),
    test = byte(raw, 24) % 2 == 1,
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

-- The parts of the extras: sender, gate, tags, signature, end of the window (ms or nil).
local function extras_of(r)
  local sender, gate, tags, rest = string.match(sub(r.raw, r.extras_at, r.extras_at + r.extras_len - 1),
    '^([^\31]*)\31([^\31]*)\31([^\31]*)(.*)$')
  local signature, closes = string.match(rest, '^\31([^\31]*)\31([^\31]*)$')
  return sender, gate, tags, signature or '', closes and closes ~= '' and tonumber(closes, 36) or nil
end

-- A record (or the front of one that ends within or behind its log) without its text.
local function without_text(raw)
  local ml, dl1, dl2, el1, el2, b1, b2, b3 = byte(raw, 25, 32)
  local body = 33 + ml + dl1 * 256 + dl2 + el1 * 256 + el2
  local size = (b1 * 256 + b2) * 256 + b3
  if size < 5 then return raw end
  local r1, r2, c1, c2 = byte(raw, body + 1, body + 4)
  local kept = 5 + r1 * 256 + r2 + c1 * 256 + c2
  if kept >= size then return raw end
  return sub(raw, 1, 29) .. char(0, floor(kept / 256), kept % 256) .. sub(raw, 33, body + kept - 1) .. sub(raw, body + size)
end

-- Whether a category's texts are cut out of the record when a message ends.
local function erases(cat)
  return sub(RETENTION[cat + 1] or '', -1) == 'e'
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

