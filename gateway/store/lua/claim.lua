#!lua flags=allow-oom
--@include _record
-- Take messages for the free capacity of a worker's channels: verification first, accounts in turn, and say so in the
-- worker's claims before a byte is sent.
--
-- Promise: what is returned has left its queue and stands in claims:<incarnation> under the token and its channel. The
--   record stays `q`: an id is in at most one queue or one worker's claims, so the record need not be written for it.
--   Entries whose record is gone, no longer queued, past its time, closed by a gate or blacklisted leave the queue here;
--   one whose window has closed is deferred (`reopen` names it, see reopen.lua).
-- Repeat: with ARGV 3 = '1' the batch claimed under the same token is returned again (but for messages that a receipt
--   ended meanwhile) and nothing new is taken.
-- KEYS 1 prefix
-- ARGV 1 incarnation  2 token  3 repeat ('1')  4-6 max_attempts of the categories  7-9 retention_s
--   10 number of channels, then for each: id, parts for verification, parts for the others, number of sources,
--   then for each source: route, rank, min_wait_ms of the categories (3 values; -1: category not served), how it shares
--   this source with the other channels of the call (or ''): tier, weights of the categories (3 values), and for each
--   carrier with other weights `carrier=w,w,w`, a space between; the lowest tier that has room takes it all, and its
--   channels by weight
-- Returns  now (and the final states made, see `finish`), then for each message: channel number (from 1), id, record; or now and `more` when everything that was
--   found left its queue without being claimed, so that there may be work behind it
RETENTION[1], RETENTION[2], RETENTION[3] = ARGV[7], ARGV[8], ARGV[9]
local inc, token = ARGV[1], ARGV[2]
local claims_key = P .. 'claims:' .. inc
local now = time_ms()
local result = { ms_text(now) }

-- What the specifications of shares say, kept from call to call: there are few.
local function share_of(text)
  local known = share_specs[text]
  if known then return known end
  local tier, a, b, c = string.match(text, '^(%d+) (%d+) (%d+) (%d+)')
  known = { tier = tonumber(tier), [0] = tonumber(a), tonumber(b), tonumber(c) }
  for carrier, x, y, z in string.gmatch(text, ' ([^ =]+)=(%d+),(%d+),(%d+)') do
    known.by_carrier = known.by_carrier or {}
    known.by_carrier[carrier] = { [0] = tonumber(x), tonumber(y), tonumber(z) }
  end
  share_specs_n = share_specs_n + 1
  if share_specs_n > 1000 then share_specs, share_specs_n = {}, 1 end
  share_specs[text] = known
  return known
end

local groups = {} -- route:rank → channels of this call that share it
local channels, at = {}, 11
for i = 1, tonumber(ARGV[10]) do
  local c = { id = ARGV[at], code = tonumber(ARGV[at + 1]), rest = tonumber(ARGV[at + 2]), sources = {} }
  local nsrc = tonumber(ARGV[at + 3])
  at = at + 4
  for k = 1, nsrc do
    c.sources[k] = { route = ARGV[at], rank = ARGV[at + 1],
      wait = { [0] = tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4]) } }
    if ARGV[at + 5] ~= '' then
      local source, name = c.sources[k], ARGV[at] .. ':' .. ARGV[at + 1]
      source.group = groups[name] or { members = {}, name = name, served = {} }
      groups[name] = source.group
      local share = share_of(ARGV[at + 5])
      source.group.members[#source.group.members + 1] = { c = i, share = share }
      if share.by_carrier then source.group.by_carrier = true end
    end
    at = at + 6
  end
  channels[i] = c
end

if ARGV[3] == '1' then
  for c = 1, #channels do
    local entries = call('HGET', claims_key, token .. US .. channels[c].id) or ''
    for at = 1, #entries, CLAIM do
      local id = sub(entries, at, at + ID - 1)
      local raw = call('GET', P .. 'msg:' .. id)
      if raw and byte(raw, #raw - T + 1) == 113 and claim_of(id, raw) == sub(entries, at, at + CLAIM - 1) then
        result[#result + 1] = tostring(c)
        result[#result + 1] = id
        result[#result + 1] = raw
      end
    end
  end
  return result
end

local ids, channel_of = {}, {}
local raw_of = {} -- records that had to be read early, by id
local channel_text = {}
for c = 1, #channels do channel_text[c] = tostring(c) end

local function room(channel, cat)
  return cat == 0 and channel.code or math.min(channel.rest, channel.code)
end

local function spend(channel, parts)
  channel.code, channel.rest = channel.code - parts, channel.rest - parts
end

-- The channel of a group that takes the next message: of the lowest tier with room the one that is owed most. What is owed
-- is remembered from call to call, so that shares hold for single messages and over several workers.
local function deal(group, cat, carrier, parts)
  local least = 1 -- who has room for all of it, else for some of it
  for m = 1, #group.members do
    if room(channels[group.members[m].c], cat) >= parts then least = parts end
  end
  local tier = nil
  for m = 1, #group.members do
    local member = group.members[m]
    local fits = room(channels[member.c], cat) >= least
    if fits and (not tier or member.share.tier < tier) then tier = member.share.tier end
  end
  if not tier then return group.members[1].c end -- the last message of a pop may be longer than the room
  local key = group.name .. ':' .. cat .. ':' .. carrier
  local credit = credits[key]
  if not credit then
    credits_n = credits_n + 1
    if credits_n > 5000 then credits, credits_n = {}, 1 end
    credit = {}
    credits[key] = credit
  end
  local best, most, sum = nil, nil, 0
  for m = 1, #group.members do
    local member = group.members[m]
    local channel = channels[member.c]
    if member.share.tier == tier and room(channel, cat) >= least then
      local own = member.share.by_carrier and member.share.by_carrier[carrier] or member.share
      local weight = own[cat]
      local owed = (credit[channel.id] or 0) + weight
      credit[channel.id], sum = owed, sum + weight
      if not most or owed > most then best, most = member.c, owed end
    end
  end
  credit[channels[best].id] = most - sum
  return best
end

-- Pop up to `budget` parts from one queue, for a channel or a group of them; what does not fit goes back to its head.
local function pop(key, budget, taker, cat, most)
  local entries = call('LPOP', key, most)
  if not entries then return 0, true end
  if taker.by_carrier then
    local record_keys = {}
    for k = 1, #entries do record_keys[k] = P .. 'msg:' .. sub(entries[k], 1, ID) end
    local records = call('MGET', unpack(record_keys))
    for k = 1, #entries do raw_of[sub(entries[k], 1, ID)] = records[k] end
  end
  local used = 0
  for k = 1, #entries do
    local parts = byte(entries[k], 23)
    if used > 0 and used + parts > budget then
      local back = {}
      for m = #entries, k, -1 do back[#back + 1] = entries[m] end
      call('LPUSH', key, unpack(back))
      return used, false, true
    end
    used = used + parts
    local id = sub(entries[k], 1, ID)
    local c = taker.c
    if not c then
      local carrier = ''
      if taker.by_carrier and raw_of[id] then
        local raw = raw_of[id]
        local from = find(raw, US, 33 + byte(raw, 25), true) + 1
        carrier = sub(raw, from, find(raw, US, from, true) - 1)
      end
      c = deal(taker, cat, carrier, parts)
    end
    spend(channels[c], parts)
    ids[#ids + 1] = id
    channel_of[#ids] = c
  end
  return used, #entries < most
end

-- Serve one ring (a route, rank and category) for a channel or a group; accounts take turns.
local function serve(taker, source, cat, budget)
  local name = source.route .. ':' .. source.rank .. ':' .. cat
  local ring = P .. 'ring:' .. name
  local left = call('LLEN', ring)
  if left == 0 then return end
  local quiet, turns, share = 0, 0, 0
  while budget > 0 and left > 0 and quiet < left do
    local account = call('LMOVE', ring, ring, 'LEFT', 'RIGHT')
    local key = P .. 'q:' .. name .. ':' .. account
    local skip = false
    if source.wait[cat] > 0 then
      local head = call('LINDEX', key, 0)
      skip = head and now - de6(head, 17) < source.wait[cat]
    end
    if skip then
      quiet = quiet + 1
    else
      quiet = 0
      if turns == 0 then turns, share = left, math.ceil(budget / left) end -- one round: the same for each account
      local used, empty, full = pop(key, math.min(budget, 1000), taker, cat, math.min(share, 1000))
      budget = budget - used
      turns = turns - 1
      if empty or call('EXISTS', key) == 0 then
        call('RPOP', ring) -- the account stands at the tail since its turn began
        left = left - 1
      end
      if full then break end
    end
  end
end

-- Verification on all channels before notification on any: what a group shares is taken for all its channels at once.
for cat = 0, 2 do
  for c = 1, #channels do
    local channel = channels[c]
    channel.c = c
    local budget = room(channel, cat)
    if budget > 0 then
      local key = P .. 'pin:' .. channel.id .. ':' .. cat
      if call('EXISTS', key) == 1 then pop(key, budget, channel, cat, budget) end
    end
  end
  for c = 1, #channels do
    local channel = channels[c]
    for k = 1, #channel.sources do
      local source = channel.sources[k]
      local group = source.group
      if source.wait[cat] >= 0 and room(channel, cat) > 0 then
        if not group or #group.members == 1 then
          serve(channel, source, cat, room(channel, cat))
        elseif not group.served[cat] then
          group.served[cat] = true
          local budget = 0
          for m = 1, #group.members do budget = budget + math.max(0, room(channels[group.members[m].c], cat)) end
          serve(group, source, cat, budget)
        end
      end
    end
  end
end
if #ids == 0 then return result end

local gates = call('HLEN', P .. 'gates') > 0 and call('HGETALL', P .. 'gates') or nil
local gate = {}
if gates then for i = 1, #gates, 2 do gate[gates[i]] = gates[i + 1] end end

-- The strictest of the gates that hold for a record: nil, or `hold`/`closed` with the gate's name.
local function gated(r)
  local held, by = nil, nil
  for _, one in ipairs(gate_names(r)) do
    local state = gate[one]
    if state == 'closed' then return state, one end
    if state == 'hold' then held, by = state, one end
  end
  return held, by
end

local keys = {}
for i = 1, #ids do keys[i] = P .. 'msg:' .. ids[i] end
local raws = call('MGET', unpack(keys))

-- Blacklists: the global one always, those of accounts and their senders only where there are some.
local numbers, number_of = {}, {}
for i = 1, #ids do
  local raw = raws[i]
  if raw then
    numbers[#numbers + 1] = sub(raw, 33, 32 + byte(raw, 25))
    number_of[i] = #numbers
  end
end
local black = #numbers > 0 and call('HMGET', P .. 'blacklist:*', unpack(numbers)) or {}
local scoped = {} -- scope → true, or what it says of these numbers once a message asked: there may be hundreds of scopes
local below = {} -- accounts that have lists of a sender or signature
local any_scoped = false
if #numbers > 0 then
  for _, scope in ipairs(call('SMEMBERS', P .. 'blacklists')) do
    any_scoped, scoped[scope] = true, true
    local slash = find(scope, '/', 1, true)
    if slash then below[sub(scope, 1, slash - 1)] = true end
  end
end
local function blocked(value, cat)
  return value and has(byte(value, 1) - 48, 2 ^ cat)
end

local function on_list(scope, cat, place)
  if scoped[scope] == true then scoped[scope] = call('HMGET', P .. 'blacklist:' .. scope, unpack(numbers)) end
  return scoped[scope] and blocked(scoped[scope][place], cat)
end

-- Whether one of the blacklists of a message's account names its number: the account's own, or that of its sender or signature.
local function on_own_list(id, raw, cat, place)
  local from = 33 + byte(raw, 25)
  local account = sub(raw, from, find(raw, US, from, true) - 1)
  if on_list(account, cat, place) then return true end
  if not below[account] then return false end
  local sender, _, _, signature = extras_of(read_record(id, raw))
  return on_list(account .. '/' .. sender, cat, place) or on_list(account .. '/' .. signature, cat, place)
end

local reopen, later = {}, {} -- messages whose window has closed; when they are looked at in any case

-- Messages that may not go now leave here, each for its reason. Returns true when the message may be claimed.
local function may_go(id, raw, expired, is_black, cat, attempt)
  local r = read_record(id, raw)
  local door, by = nil, nil
  if gates then door, by = gated(r) end
  local closes = has(r.marks, 4) and not expired and select(5, extras_of(r))
  if expired then
    finalise(r, has(r.flags, 8) and 'K' or 'E', 'expired', '', '', now)
  elseif door == 'closed' then
    if close_by_gate(r, now) then call('HINCRBY', P .. 'gatecount', by .. US .. 'closed', 1) end
  elseif door == 'hold' then
    r.state = 'w'
    write_record(r, now)
    call('RPUSH', P .. 'held:' .. by, id)
    waiting_delta = waiting_delta + 1
  elseif is_black then
    finalise(r, 'B', 'blacklisted', '', '', now, nil, '1')
  elseif attempt >= tonumber(ARGV[4 + cat]) then
    finalise(r, has(r.flags, 1) and 'K' or 'F', 'attempts_exhausted', '', '', now)
  elseif closes and closes <= now and not has(r.flags, 16) then
    r.state = 'f'
    write_record(r, now)
    waiting_delta = waiting_delta + 1
    reopen[#reopen + 1] = id
    later[#later + 1] = now + 60000
    later[#later + 1] = id
  else
    return true
  end
  return false
end

local claims = {} -- by channel
local taken = {}
for i = 1, #ids do
  local raw, id = raws[i], ids[i]
  if raw and not taken[id] then
    local t = #raw - T
    local state, _, attempt, flags = byte(raw, t + 1, t + 4)
    if state == 113 then -- q
      taken[id] = true
      waiting_delta = waiting_delta - 1
      local cat = byte(raw, 22) - 48
      local a, b, c, d, e, f = byte(raw, 7, 12)
      local expired = ((((a * 256 + b) * 256 + c) * 256 + d) * 256 + e) * 256 + f <= now
      local is_black = blocked(black[number_of[i]], cat)
      if any_scoped and not is_black then is_black = on_own_list(id, raw, cat, number_of[i]) end
      local plain = not (expired or is_black or gates) and attempt == 0 and byte(raw, 24) < 4
      if plain or may_go(id, raw, expired, is_black, cat, attempt) then
        local n = #result
        result[n + 1] = channel_text[channel_of[i]]
        result[n + 2] = id
        result[n + 3] = raw
        local c = channel_of[i]
        local of_channel = claims[c]
        if of_channel then
          of_channel[#of_channel + 1] = id .. sub(raw, t + 13, t + 18)
        else
          claims[c] = { id .. sub(raw, t + 13, t + 18) }
        end
      end
    end
  end
end
if #reopen > 0 then
  call('RPUSH', P .. 'reopen', unpack(reopen))
  call('ZADD', P .. 'due', unpack(later))
end
if #result > 1 then
  local fields = {}
  for c, entries in pairs(claims) do
    fields[#fields + 1] = token .. US .. channels[c].id
    fields[#fields + 1] = table.concat(entries)
  end
  call('HSET', claims_key, unpack(fields))
  call('SADD', P .. 'holders', inc)
else
  result[2] = 'more'
end
result[1] = result[1] .. finish(now)
return result
