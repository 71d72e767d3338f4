#!lua
--@include _record
-- Store new messages: record, queue entry, expiry bucket, caps, idempotency and statistics of each, or nothing of it.
--
-- Promise: an item answered `a` is wholly written; any other answer wrote nothing for it. The order of the checks is
--   idempotency, blacklist, caps, room: a replay is never capped, charged or refused for room.
-- Repeat: the ids are made before the call, so the same call again answers `a` again for what it stored (the record is
--   there under the same id) and writes nothing twice.
-- KEYS 1 prefix of the shard
-- ARGV 1 most waiting messages (0: no limit, -1: none may be added)  2 the same for verification  3-5 cap rules of the categories
--   ("limit,window_s;...")  6 '1' when the call is repeated  7 number of classes, then for each class 9 values:
--   category, account, dims, route, ttl_ms, send_at_ms, not_after_ms, state, test ('1' or '0');
--   then for each item 5 values: class number, id (16 bytes), msisdn, rest of the record, idem (16) .. digest (8) or ''
-- Returns  now (ms as text), one letter an item in one string, then for each item in order that is r or c what belongs to
--   it: a accepted | r replay: id and '1' when its digest matches | b blacklisted | c capped: allowed again at, ms
--   | e not_after is past | f full
local now = time_ms()
local ncls = tonumber(ARGV[7])
local classes = {}
local at = 8
for i = 1, ncls do
  classes[tostring(i)] = {
    cat = tonumber(ARGV[at]), account = ARGV[at + 1], dims = ARGV[at + 2], route = ARGV[at + 3],
    ttl = tonumber(ARGV[at + 4]), send_at = tonumber(ARGV[at + 5]), not_after = tonumber(ARGV[at + 6]),
    state = ARGV[at + 7], test = ARGV[at + 8] == '1', entries = {}, n = 0, accepted = 0,
  }
  at = at + 9
end

local rules = {}
for c = 0, 2 do
  local list = {}
  for limit, window in string.gmatch(ARGV[3 + c], '(%d+),(%d+)') do
    list[#list + 1] = { tonumber(limit), tonumber(window) }
  end
  rules[c] = list
end

-- Reads first, one command for all items.
local first = at
local n = (#ARGV - first + 1) / 5
local idem_fields, idem_of = {}, {}
local numbers = {}
for i = 1, n do
  local b = first + (i - 1) * 5
  numbers[i] = ARGV[b + 2]
  if ARGV[b + 4] ~= '' then
    idem_fields[#idem_fields + 1] = sub(ARGV[b + 4], 1, 16)
    idem_of[i] = #idem_fields
  end
end
local gen = tonumber(call('GET', P .. 'idem:gen') or '1')
local idem_now, idem_old = {}, {}
if #idem_fields > 0 then
  idem_now = call('HMGET', P .. 'idem:' .. gen, unpack(idem_fields))
  if gen > 1 then idem_old = call('HMGET', P .. 'idem:' .. (gen - 1), unpack(idem_fields)) end
end
local black = call('HMGET', P .. 'blacklist:*', unpack(numbers))
local black_own = {}
for i = 1, ncls do
  local account = classes[tostring(i)].account
  if black_own[account] == nil then
    local key = P .. 'blacklist:' .. account
    black_own[account] = call('EXISTS', key) == 1 and call('HMGET', key, unpack(numbers)) or false
  end
end
local nums = call('HMGET', num_key(now, 0), unpack(numbers))
if call('EXISTS', num_key(now, 1)) == 1 then
  local old = call('HMGET', num_key(now, 1), unpack(numbers))
  for i = 1, n do nums[i] = nums[i] or old[i] end
end
local num_now = {} -- numbers changed by an earlier item of this call
local waiting = tonumber(call('GET', P .. 'waiting') or '0')
local limit_all, limit_code = tonumber(ARGV[1]), tonumber(ARGV[2])

local function blocked(value, cat)
  return value and has(byte(value, 1) - 48, 2 ^ cat)
end

-- Decide the caps on the packed value of a number; nil: allowed, else the second from which it is allowed again.
local function capped(value, cls, second)
  local at, n = find_caps(value, cls.cat, cls.account)
  if not at then return nil end
  local times = {}
  for k = 1, n do times[k] = time_at(value, at + 4 * k - 4) end
  local until_s = nil
  for _, rule in ipairs(rules[cls.cat]) do
    local limit, window = rule[1], rule[2]
    local inside, oldest = 0, nil
    for k = #times, 1, -1 do
      if times[k] > second - window then
        inside = inside + 1
        if inside == limit then oldest = times[k] end
      end
    end
    if inside >= limit then
      local again = oldest + window
      if not until_s or again > until_s then until_s = again end
    end
  end
  return until_s
end

-- The packed value of a number that has one already, with this message in it; and the concatenation reference.
local function packed(value, cls, id, second, long)
  local r1, r2, l1, l2 = byte(value, 1, 4)
  local reference, caps_end = r1 * 256 + r2, 4 + l1 * 256 + l2
  if long then reference = (reference + 1) % 65536 end
  local caps, ids = sub(value, 5, caps_end), sub(value, caps_end + 1)
  if cls.capped then
    local at, n = find_caps(value, cls.cat, cls.account)
    local kept, from = {}, nil
    if at then
      from = at - 4 - #cls.account - 4 -- where the block begins, counted in `caps`
      for k = 1, n do
        if time_at(value, at + 4 * k - 4) > second - cls.longest then
          kept[#kept + 1] = sub(value, at + 4 * k - 4, at + 4 * k - 1)
        end
      end
      while #kept >= cls.most do table.remove(kept, 1) end
      caps = sub(caps, 1, from - 1) .. sub(caps, from + 4 + #cls.account + 4 * n)
    end
    kept[#kept + 1] = be4(second)
    caps = caps .. char(cls.cat, #cls.account) .. cls.account .. be2(#kept) .. table.concat(kept)
  end
  if #ids >= 16 * ID then ids = sub(ids, ID - 16 * ID) end
  return be2(reference) .. be2(#caps) .. caps .. ids .. id, reference
end

-- A call repeated after a lost answer: which of the ids are stored already?
local stored = {}
if ARGV[6] == '1' then
  for i = 1, n do
    local id = ARGV[first + (i - 1) * 5 + 1]
    if call('EXISTS', P .. 'msg:' .. id) == 1 then stored[i] = true end
  end
end

local second = floor(now / 1000)
local now6 = be6(now)
local expiring = {}
for i = 1, ncls do
  local cls = classes[tostring(i)]
  local expires = (cls.send_at > now and cls.send_at or now) + cls.ttl
  if cls.not_after > 0 and expires > cls.not_after then expires = cls.not_after end
  cls.late = expires <= now
  local state = 'q'
  if cls.send_at > now then state = cls.state == 'f' and 'f' or 'h' end
  cls.due = state ~= 'q'
  cls.front = now6 .. be6(expires) .. be6(cls.send_at)
  cls.back = state .. '\0\0\0\0\0\0\0\0\0-\0' .. now6 .. '--------'
  local grain = cls.ttl <= 3600000 and 15000 or 300000
  local bucket = math.ceil(expires / grain) * grain / 1000
  expiring[bucket] = expiring[bucket] or {}
  cls.bucket = expiring[bucket]
  cls.limit = cls.cat == 0 and limit_code or limit_all
  cls.capped = #rules[cls.cat] > 0 and not cls.test
  cls.most, cls.longest = 0, 0
  for _, rule in ipairs(rules[cls.cat]) do
    cls.most, cls.longest = math.max(cls.most, rule[1]), math.max(cls.longest, rule[2])
  end
  local caps = cls.capped and char(cls.cat, #cls.account) .. cls.account .. '\0\1' .. be4(second) or ''
  cls.number = '\0\0' .. be2(#caps) .. caps -- what a number without a value gets, before the id
  cls.number_long = '\0\1' .. be2(#caps) .. caps
  cls.black = black_own[cls.account]
end

local answers, result = {}, { ms_text(now), '' }
local records, idem_new, due, seen, num_new, changed = {}, {}, {}, {}, {}, false
for i = 1, n do
  local b = first + (i - 1) * 5
  local cls, id, msisdn, rest, mark = classes[ARGV[b]], ARGV[b + 1], numbers[i], ARGV[b + 3], ARGV[b + 4]
  local answer, field = nil, nil
  if mark ~= '' then
    local k = idem_of[i]
    field = idem_fields[k]
    local held = seen[field] or idem_now[k] or idem_old[k]
    if held then
      if sub(held, 1, ID) == id then
        answer = 'a'
      else
        answer = 'r'
        result[#result + 1] = sub(held, 1, ID) .. (sub(held, ID + 1) == sub(mark, 17) and '1' or '0')
      end
    end
  end
  local value = num_now[msisdn] or nums[i]
  if answer then
  elseif stored[i] then
    answer = 'a'
  elseif blocked(black[i], cls.cat) or (cls.black and blocked(cls.black[i], cls.cat)) then
    answer = 'b'
  else
    local again = value and cls.capped and capped(value, cls, second)
    if again then
      answer = 'c'
      result[#result + 1] = ms_text(again * 1000)
    elseif cls.late then
      answer = 'e'
    elseif cls.limit < 0 or (cls.limit > 0 and waiting >= cls.limit) then
      answer = 'f'
    end
  end
  if not answer then
    answer = 'a'
    local long = byte(rest, 3) > 1
    local reference = long and 1 or 0
    if value then
      value, reference = packed(value, cls, id, second, long)
    else
      value = (long and cls.number_long or cls.number) .. id
    end
    num_now[msisdn] = value
    num_new[#num_new + 1] = msisdn
    num_new[#num_new + 1] = value
    if cls.due then
      due[#due + 1] = cls.send_at
      due[#due + 1] = id
    else
      cls.n = cls.n + 1
      cls.entries[cls.n] = id .. now6 .. sub(rest, 3, 3)
    end
    records[#records + 1] = P .. 'msg:' .. id
    records[#records + 1] = cls.front .. (reference == 0 and '\0\0' or be2(reference)) .. rest .. cls.back
    cls.bucket[#cls.bucket + 1] = id
    if field then
      local held = id .. sub(mark, 17)
      seen[field] = held
      idem_new[#idem_new + 1] = field
      idem_new[#idem_new + 1] = held
    end
    waiting = waiting + 1
    cls.accepted = cls.accepted + 1
  end
  answers[i] = answer
end
result[2] = table.concat(answers)

-- Writes, nothing before this line.
if #records > 0 then
  call('MSET', unpack(records))
  local num = num_key(now, 0)
  call('HSET', num, unpack(num_new))
  call('EXPIRE', num, 2 * NUM_S, 'NX')
  for bucket, list in pairs(expiring) do
    if #list > 0 then call('RPUSH', P .. 'exp:' .. bucket, unpack(list)) end
  end
  if #idem_new > 0 then call('HSET', P .. 'idem:' .. gen, unpack(idem_new)) end
  if #due > 0 then call('ZADD', P .. 'due', unpack(due)) end
  for i = 1, ncls do
    local cls = classes[tostring(i)]
    waiting_delta = waiting_delta + cls.accepted
    if cls.accepted > 0 and not cls.test then
      count_as(cls.dims, cls.cat .. US .. US .. 'accepted' .. US, cls.accepted)
    end
    if cls.n > 0 then
      local name = cls.route .. ':0:' .. cls.cat
      local length = call('RPUSH', P .. 'q:' .. name .. ':' .. cls.account, unpack(cls.entries))
      if length == cls.n then
        call('RPUSH', P .. 'ring:' .. name, cls.account)
        call('SADD', P .. 'rings', name)
        woke = true
      end
    end
  end
  finish(now)
end
return result
