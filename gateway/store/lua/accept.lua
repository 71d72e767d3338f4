#!lua
--@include _record
-- Store new messages: record, queue entry, expiry bucket, caps, idempotency and statistics of each, or nothing of it.
--
-- Promise: an item answered `a` is wholly written; any other answer wrote nothing for it. The order of the checks is
--   idempotency, blacklist, caps, room: a replay is never capped, charged or refused for room.
-- Repeat: the ids are made before the call, so the same call again answers `a` again for what it stored (the record is
--   there under the same id) and writes nothing twice.
-- KEYS 1 prefix of the shard
-- ARGV 1 most waiting messages (0: no limit, -1: none may be added)  2 the same for verification  3 '1' when the call is
--   repeated  4 number of classes, then for each class 13 values: category, account, dims, route, ttl_ms, send_at_ms,
--   not_after_ms, state, test ('1' or '0'), caps (for each RS name US "limit,window_s;..."), blacklist scopes besides `*`
--   (US between), ms after send_at over which its messages leave, '1' to defer what is capped instead of refusing it;
--   then for each item 5 values: class number, id (16 bytes), msisdn, rest of the record, idem (16) .. digest (8) or ''
-- Returns  now (ms as text), one letter an item in one string, then for each item in order that is r, c or d what belongs
--   to it: a accepted | d accepted, deferred by a cap: due at, ms | r replay: id and '1' when its digest matches |
--   b blacklisted | c capped: allowed again at, ms | e not_after is past | f full
local now = time_ms()
local ncls = tonumber(ARGV[4])

-- Caps by the text they are written as: there are few.
local function caps_of(text)
  local known = cap_specs[text]
  if known then return known end
  known = {}
  for name, rules in string.gmatch(text, '\30([^\31]*)\31([^\30]*)') do
    local cap = { name = name, most = 0, longest = 0, rules = {} }
    for limit, window in string.gmatch(rules, '(%d+),(%d+)') do
      limit, window = tonumber(limit), tonumber(window)
      cap.rules[#cap.rules + 1] = { limit, window }
      cap.most, cap.longest = math.max(cap.most, limit), math.max(cap.longest, window)
    end
    known[#known + 1] = cap
  end
  cap_specs_n = cap_specs_n + 1
  if cap_specs_n > 2000 then cap_specs, cap_specs_n = {}, 1 end
  cap_specs[text] = known
  return known
end

local classes = {}
local at = 5
for i = 1, ncls do
  classes[tostring(i)] = {
    cat = tonumber(ARGV[at]), account = ARGV[at + 1], dims = ARGV[at + 2], route = ARGV[at + 3],
    ttl = tonumber(ARGV[at + 4]), send_at = tonumber(ARGV[at + 5]), not_after = tonumber(ARGV[at + 6]),
    state = ARGV[at + 7], test = ARGV[at + 8] == '1', caps = caps_of(ARGV[at + 9]), scopes = ARGV[at + 10],
    spread = tonumber(ARGV[at + 11]), defers = ARGV[at + 12] == '1', entries = {}, n = 0, accepted = 0,
  }
  at = at + 13
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
local scoped = {} -- scopes of a class, as the call writes them → those of these blacklists that exist
for i = 1, ncls do
  local scopes = classes[tostring(i)].scopes
  if scoped[scopes] == nil then
    scoped[scopes] = false
    for scope in string.gmatch(scopes, '[^\31]+') do
      if black_own[scope] == nil then
        local key = P .. 'blacklist:' .. scope
        black_own[scope] = call('EXISTS', key) == 1 and call('HMGET', key, unpack(numbers)) or false
      end
      if black_own[scope] then
        scoped[scopes] = scoped[scopes] or {}
        table.insert(scoped[scopes], black_own[scope])
      end
    end
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

local function on_own_list(cls, i)
  for k = 1, #cls.black do
    if blocked(cls.black[k][i], cls.cat) then return true end
  end
  return false
end

-- Decide the caps on the packed value of a number; nil: allowed, else the second from which all of them allow it again.
local function capped(value, cls, second)
  local until_s = nil
  for c = 1, #cls.caps do
    local at, n = find_caps(value, cls.cat, cls.caps[c].name)
    for _, rule in ipairs(at and cls.caps[c].rules or {}) do
      local limit, window = rule[1], rule[2]
      local inside, oldest = 0, nil
      for k = n, 1, -1 do
        local time = time_at(value, at + 4 * k - 4)
        if time > second - window then
          inside = inside + 1
          if inside == limit then oldest = time end
        end
      end
      if inside >= limit then
        local again = oldest + window
        if not until_s or again > until_s then until_s = again end
      end
    end
  end
  return until_s
end

-- The caps of a number's value with one time more in those of `cap`; `counts` is when the message counts (it may be later
-- than `second`, which is now).
local function with_time(caps, cap, cat, second, counts)
  local value = '\0\0' .. be2(#caps) .. caps
  local at, n = find_caps(value, cat, cap.name)
  local kept = {}
  if at then
    local from = at - 4 - #cap.name - 4 -- where the block begins, counted in `caps`
    for k = 1, n do
      local time = time_at(value, at + 4 * k - 4)
      if time > second - cap.longest then kept[#kept + 1] = time end
    end
    while #kept >= cap.most do table.remove(kept, 1) end
    caps = sub(caps, 1, from - 1) .. sub(caps, from + 4 + #cap.name + 4 * n)
  end
  local place = #kept + 1
  while place > 1 and kept[place - 1] > counts do place = place - 1 end
  table.insert(kept, place, counts)
  for k = 1, #kept do kept[k] = be4(kept[k]) end
  return caps .. char(cat, #cap.name) .. cap.name .. be2(#kept) .. table.concat(kept)
end

-- The caps of a number whose value grew long, as by ever new signatures: without those whose times are all longer ago
-- than any window, and of the rest those written last, as many as the value has room for.
local CAPS_LONG, CAPS_MOST = 8192, 61440
local function without_old(caps, second)
  local kept, size, at = {}, 0, 1
  while at <= #caps do
    local n1, n2 = byte(caps, at + 2 + byte(caps, at + 1), at + 3 + byte(caps, at + 1))
    local n = n1 * 256 + n2
    local stop = at + 3 + byte(caps, at + 1) + 4 * n
    if n > 0 and time_at(caps, stop - 3) > second - NUM_S then
      kept[#kept + 1], size = sub(caps, at, stop), size + stop - at + 1
    end
    at = stop + 1
  end
  local first = 1
  while size > CAPS_MOST do size, first = size - #kept[first], first + 1 end
  return table.concat(kept, '', first)
end

-- The packed value of a number that has one already, with this message in it; and the concatenation reference.
local function packed(value, cls, id, second, long, counts)
  local r1, r2, l1, l2 = byte(value, 1, 4)
  local reference, caps_end = r1 * 256 + r2, 4 + l1 * 256 + l2
  if long then reference = (reference + 1) % 65536 end
  local caps, ids = sub(value, 5, caps_end), sub(value, caps_end + 1)
  for c = 1, #cls.caps do caps = with_time(caps, cls.caps[c], cls.cat, second, counts) end
  if #caps > CAPS_LONG then caps = without_old(caps, second) end
  if #ids >= 16 * ID then ids = sub(ids, ID - 16 * ID) end
  return be2(reference) .. be2(#caps) .. caps .. ids .. id, reference
end

-- A call repeated after a lost answer: which of the ids are stored already?
local stored = {}
if ARGV[3] == '1' then
  for i = 1, n do
    local id = ARGV[first + (i - 1) * 5 + 1]
    if call('EXISTS', P .. 'msg:' .. id) == 1 then stored[i] = true end
  end
end

local second = floor(now / 1000)
local now6 = be6(now)
local expiring = {}
local function bucket_of(expires, ttl)
  local grain = ttl <= 3600000 and 15000 or 300000
  local bucket = math.ceil(expires / grain) * grain / 1000
  local list = expiring[bucket]
  if not list then
    list = {}
    expiring[bucket] = list
  end
  return list
end

-- The times at the front of a record that is due at `due` (0: now), and the bucket it is filed in to expire; nil: too late.
local function front_of(cls, due)
  local expires = (due > now and due or now) + cls.ttl
  if cls.not_after > 0 and expires > cls.not_after then expires = cls.not_after end
  if expires <= now or due >= expires then return nil end
  return now6 .. be6(expires) .. be6(due), bucket_of(expires, cls.ttl)
end

-- The combination of template, campaign and variant of a class: beyond 2,000 an account and day they are counted as `other`.
local combinations, combined = {}, {} -- key → new ones of this call; those already known
local function counts_as_other(cls)
  local combination = string.match(cls.dims, '^[^\31]*\31[^\31]*\31[^\31]*\31(.*)$')
  if combination == US .. US or cls.test then return false end
  local key = P .. 'kinds:' .. floor(now / 86400000) .. ':' .. cls.account
  local name = key .. US .. combination
  if combined[name] == nil then
    combined[name] = false
    if call('SISMEMBER', key, combination) == 0 then
      local fresh = combinations[key] or {}
      combinations[key] = fresh
      if call('SCARD', key) + #fresh >= 2000 then
        combined[name] = true
      else
        fresh[#fresh + 1] = combination
      end
    end
  end
  return combined[name]
end

for i = 1, ncls do
  local cls = classes[tostring(i)]
  if cls.test then cls.caps = {} end
  local state = 'q'
  if cls.send_at > now then state = cls.state == 'f' and 'f' or 'h' end
  cls.due = state ~= 'q'
  if cls.spread > 0 and state == 'f' then
    cls.front = '' -- each message has its own
  else
    cls.spread = 0
    cls.front, cls.bucket = front_of(cls, cls.send_at)
    cls.late = not cls.front
  end
  cls.tail = '\0\0\0\0\0\0\0\0\0-\0' .. now6 .. '--------'
  cls.back = state .. cls.tail
  cls.limit = cls.cat == 0 and limit_code or limit_all
  local caps = ''
  for c = 1, #cls.caps do caps = with_time(caps, cls.caps[c], cls.cat, second, second) end
  cls.number = '\0\0' .. be2(#caps) .. caps -- what a number without a value gets, before the id
  cls.number_long = '\0\1' .. be2(#caps) .. caps
  cls.black = scoped[cls.scopes] or {}
  cls.other = counts_as_other(cls)
end

local answers, result = {}, { ms_text(now), '' }
local records, idem_new, due_ids, seen, num_new = {}, {}, {}, {}, {}
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
  elseif blocked(black[i], cls.cat) or on_own_list(cls, i) then
    answer = 'b'
  else
    local front, bucket, back, due = cls.front, cls.bucket, cls.back, cls.due and cls.send_at or nil
    local again = value and #cls.caps > 0 and capped(value, cls, second)
    local late = cls.late
    if again and cls.defers then
      due = math.max(again * 1000, cls.send_at)
      front, bucket = front_of(cls, due)
      back, late = 'f' .. cls.tail, not front
    elseif cls.spread > 0 then
      -- Its place in the opening follows from its id: the same whoever asks.
      due = cls.send_at + floor(cls.spread * (((byte(id, 13) * 256 + byte(id, 14)) * 256 + byte(id, 15)) / 16777216))
      front, bucket = front_of(cls, due)
      late = not front
    end
    if again and (late or not cls.defers) then
      answer = 'c'
      result[#result + 1] = ms_text(again * 1000)
    elseif late then
      answer = 'e'
    elseif cls.limit < 0 or (cls.limit > 0 and waiting >= cls.limit) then
      answer = 'f'
    else
      answer = again and 'd' or 'a'
      local long = byte(rest, 3) > 1
      local reference = long and 1 or 0
      if value then
        value, reference = packed(value, cls, id, second, long, again and floor(due / 1000) or second)
      else
        value = (long and cls.number_long or cls.number) .. id
      end
      num_now[msisdn] = value
      num_new[#num_new + 1] = msisdn
      num_new[#num_new + 1] = value
      if due then
        due_ids[#due_ids + 1] = due
        due_ids[#due_ids + 1] = id
      else
        cls.n = cls.n + 1
        cls.entries[cls.n] = id .. now6 .. sub(rest, 3, 3)
      end
      if again or cls.other then
        if again then result[#result + 1] = ms_text(due) end
        local marks = bit.bor(byte(rest, 4), (again and 24 or 0) + (cls.other and 2 or 0))
        rest = sub(rest, 1, 3) .. char(marks) .. sub(rest, 5)
      end
      records[#records + 1] = P .. 'msg:' .. id
      records[#records + 1] = front .. (reference == 0 and '\0\0' or be2(reference)) .. rest .. back
      bucket[#bucket + 1] = id
      if field then
        local held = id .. sub(mark, 17)
        seen[field] = held
        idem_new[#idem_new + 1] = field
        idem_new[#idem_new + 1] = held
      end
      waiting = waiting + 1
      cls.accepted = cls.accepted + 1
    end
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
  if #due_ids > 0 then call('ZADD', P .. 'due', unpack(due_ids)) end
  for key, fresh in pairs(combinations) do
    if #fresh > 0 then
      call('SADD', key, unpack(fresh))
      call('EXPIRE', key, 172800)
    end
  end
  for i = 1, ncls do
    local cls = classes[tostring(i)]
    waiting_delta = waiting_delta + cls.accepted
    if cls.accepted > 0 and not cls.test then
      count_as(counted_dims(cls.dims, cls.other and 2 or 0), cls.cat .. US .. US .. 'accepted' .. US, cls.accepted)
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
