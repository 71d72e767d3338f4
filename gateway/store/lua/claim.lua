#!lua flags=allow-oom
--@include _record
-- Take messages for the free capacity of a worker's channels: verification first, accounts in turn, and say so in the
-- records and in the worker's claims before a byte is sent.
--
-- Promise: what is returned is claimed (state `c`, attempt + 1, incarnation in the record; id in claims:<incarnation>).
--   Entries whose record is gone, no longer queued, past its time, closed by a gate or blacklisted leave the queue here.
-- Repeat: with ARGV 3 = '1' the batch claimed under the same token is returned again and nothing new is taken.
-- KEYS 1 prefix
-- ARGV 1 incarnation  2 token  3 repeat ('1')  4-6 max_attempts of the categories  7-9 retention_s
--   10 number of channels, then for each: id, parts for verification, parts for the others, number of sources,
--   then for each source: route, rank, min_wait_ms of the categories (3 values; -1: category not served)
-- Returns  now, then for each message: channel number (from 1), id, record as it was before the claim
RETENTION[1], RETENTION[2], RETENTION[3] = ARGV[7], ARGV[8], ARGV[9]
local inc, token = ARGV[1], ARGV[2]
local claims_key = P .. 'claims:' .. inc
local now = time_ms()
local result = { ms_text(now) }

local channels, at = {}, 11
for i = 1, tonumber(ARGV[10]) do
  local c = { id = ARGV[at], code = tonumber(ARGV[at + 1]), rest = tonumber(ARGV[at + 2]), sources = {} }
  local nsrc = tonumber(ARGV[at + 3])
  at = at + 4
  for k = 1, nsrc do
    c.sources[k] = { route = ARGV[at], rank = ARGV[at + 1],
      wait = { [0] = tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4]) } }
    at = at + 5
  end
  channels[i] = c
end

if ARGV[3] == '1' then
  local flat = call('HGETALL', claims_key)
  local ids, channel_of = {}, {}
  for i = 1, #flat, 2 do
    local sep = find(flat[i + 1], US, 1, true)
    if sub(flat[i + 1], sep + 1) == token then
      ids[#ids + 1] = flat[i]
      channel_of[#ids] = sub(flat[i + 1], 1, sep - 1)
    end
  end
  local records = fetch(ids)
  for i = 1, #ids do
    for c = 1, #channels do
      if records[i] and channels[c].id == channel_of[i] then
        result[#result + 1] = tostring(c)
        result[#result + 1] = ids[i]
        result[#result + 1] = records[i].raw
      end
    end
  end
  return result
end

local ids, channel_of = {}, {}

-- Pop up to `budget` parts from one queue; what does not fit goes back to its head.
local function pop(key, budget, c, most)
  local entries = call('LPOP', key, most)
  if not entries then return 0, true end
  local used = 0
  for k = 1, #entries do
    local parts = byte(entries[k], 29)
    if used > 0 and used + parts > budget then
      local back = {}
      for m = #entries, k, -1 do back[#back + 1] = entries[m] end
      call('LPUSH', key, unpack(back))
      return used, false, true
    end
    used = used + parts
    ids[#ids + 1] = sub(entries[k], 1, 22)
    channel_of[#ids] = c
  end
  return used, #entries < most
end

-- Serve one ring (a route, rank and category) for channel number c; accounts take turns.
local function serve(c, source, cat, budget)
  local name = source.route .. ':' .. source.rank .. ':' .. cat
  local ring = P .. 'ring:' .. name
  local left = call('LLEN', ring)
  if left == 0 then return budget end
  local quiet = 0
  while budget > 0 and left > 0 and quiet < left do
    local account = call('LMOVE', ring, ring, 'LEFT', 'RIGHT')
    local key = P .. 'q:' .. name .. ':' .. account
    local skip = false
    if source.wait[cat] > 0 then
      local head = call('LINDEX', key, 0)
      skip = head and now - de6(head, 23) < source.wait[cat]
    end
    if skip then
      quiet = quiet + 1
    else
      quiet = 0
      local most = left == 1 and budget or math.max(1, math.ceil(budget / left))
      local used, empty, full = pop(key, math.min(budget, 1000), c, math.min(most, 1000))
      budget = budget - used
      if empty or call('EXISTS', key) == 0 then
        call('RPOP', ring) -- the account stands at the tail since its turn began
        left = left - 1
      end
      if full then break end
    end
  end
  return budget
end

for c = 1, #channels do
  local channel = channels[c]
  for cat = 0, 2 do
    local budget = cat == 0 and channel.code or math.min(channel.rest, channel.code)
    if budget > 0 then
      local before = budget
      local key = P .. 'pin:' .. channel.id .. ':' .. cat
      if call('EXISTS', key) == 1 then budget = budget - pop(key, budget, c, budget) end
      for k = 1, #channel.sources do
        if budget <= 0 then break end
        if channel.sources[k].wait[cat] >= 0 then budget = serve(c, channel.sources[k], cat, budget) end
      end
      channel.code = channel.code - (before - budget)
      channel.rest = channel.rest - (before - budget)
    end
  end
end
if #ids == 0 then return result end

local records = fetch(ids)
local gates = call('HLEN', P .. 'gates') > 0 and call('HGETALL', P .. 'gates') or nil
local gate = {}
if gates then for i = 1, #gates, 2 do gate[gates[i]] = gates[i + 1] end end

-- The strictest of the gates that hold for a record: nil, or `hold`/`closed` with the gate's name.
local function gated(r)
  local extras = sub(r.raw, r.extras_at, r.extras_at + r.extras_len - 1)
  local sender_end = find(extras, US, 1, true)
  local gate_end = find(extras, US, sender_end + 1, true)
  local names = { 'category:' .. r.cat, 'account:' .. account_of(r.dims) }
  if gate_end > sender_end + 1 then names[#names + 1] = 'gate:' .. sub(extras, sender_end + 1, gate_end - 1) end
  for tag in string.gmatch(sub(extras, gate_end + 1), '[^\30]+') do names[#names + 1] = 'tag:' .. tag end
  local campaign = string.match(r.dims, '^[^\31]*\31[^\31]*\31[^\31]*\31[^\31]*\31([^\31]*)')
  if campaign ~= '' then names[#names + 1] = 'campaign:' .. campaign end
  local held, by = nil, nil
  for _, name in ipairs(names) do
    local state = gate[name]
    if state == 'closed' then return state, name end
    if state == 'hold' then held, by = state, name end
  end
  return held, by
end

local numbers, mine = {}, {}
local account_black = {}
local has_global = call('EXISTS', P .. 'blacklist:*') == 1
for i = 1, #ids do
  local r = records[i]
  if r then
    numbers[#numbers + 1] = r.msisdn
    mine[i] = #numbers
    local account = account_of(r.dims)
    r.account = account
    if account_black[account] == nil then account_black[account] = call('EXISTS', P .. 'blacklist:' .. account) == 1 end
  end
end
local black = has_global and #numbers > 0 and call('HMGET', P .. 'blacklist:*', unpack(numbers)) or {}
for account, there in pairs(account_black) do
  account_black[account] = there and call('HMGET', P .. 'blacklist:' .. account, unpack(numbers)) or {}
end
local function blocked(value, cat)
  return value and has(byte(value, 1) - 48, 2 ^ cat)
end

local claims = {}
local taken = {}
for i = 1, #ids do
  local r = records[i]
  if r and r.state == 'q' and not taken[r.id] then
    taken[r.id] = true
    local channel = channels[channel_of[i]]
    waiting_delta = waiting_delta - 1
    local door, by = nil, nil
    if gates then door, by = gated(r) end
    if r.expires_at <= now then
      finalise(r, r.attempt > 0 and has(r.flags, 1) and 'K' or 'E', 'expired', '', channel.id, now)
    elseif door == 'closed' then
      finalise(r, 'C', 'gate_closed', '', '', now)
      call('HINCRBY', P .. 'gatecount', by .. US .. 'closed', 1)
    elseif door == 'hold' then
      r.state = 'w'
      write_record(r, now)
      call('RPUSH', P .. 'held:' .. by, r.id)
      waiting_delta = waiting_delta + 1
    elseif blocked(black[mine[i]], r.cat) or blocked(account_black[r.account][mine[i]], r.cat) then
      finalise(r, 'B', 'blacklisted', '', '', now)
    elseif r.attempt >= tonumber(ARGV[4 + r.cat]) and not has(r.flags, 16) then
      finalise(r, has(r.flags, 1) and 'K' or 'F', 'attempts_exhausted', '', channel.id, now)
    else
      result[#result + 1] = tostring(channel_of[i])
      result[#result + 1] = r.id
      result[#result + 1] = r.raw
      r.state = 'c'
      r.attempt = math.min(r.attempt + 1, 255)
      r.inc = inc
      write_record(r, now)
      claims[#claims + 1] = r.id
      claims[#claims + 1] = channel.id .. US .. token
    end
  end
end
if #claims > 0 then call('HSET', claims_key, unpack(claims)) end
finish(now)
return result
