-- Numbers: one hash for eight days (the longest cap is seven), the one before it is still read. A number's value:
--   1-2 concatenation reference  3-4 length of the caps  caps  ids of its latest messages (at most 16, oldest first)
--   caps: for each category and name: category, length of the name, name, number of times (2 bytes), times (epoch seconds,
--   4 bytes each, oldest first). A name is an account, `*` for all of them, or account#s:signature, account#t:tag
local NUM_S = 691200
local function num_key(now, back)
  return P .. 'num:' .. (floor(now / 1000 / NUM_S) - back)
end

local function be4(n)
  local high = floor(n / 65536)
  local low = n - high * 65536
  return char(floor(high / 256) % 256, high % 256, floor(low / 256), low % 256)
end

-- Where the caps of a category and name stand in a number's value: their first time and how many, nil for none.
local function find_caps(value, cat, name)
  local l1, l2 = byte(value, 3, 4)
  local at, stop = 5, 4 + l1 * 256 + l2
  while at <= stop do
    local c, l = byte(value, at, at + 1)
    local n1, n2 = byte(value, at + 2 + l, at + 3 + l)
    local n = n1 * 256 + n2
    if c == cat and sub(value, at + 2, at + 1 + l) == name then return at + 4 + l, n end
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

-- The value of a number without one time of a cap, nil when it is not there.
local function without_time(value, cat, name, second)
  local at, n = find_caps(value, cat, name)
  for k = 0, n and n - 1 or -1 do
    if time_at(value, at + 4 * k) == second then
      local l1, l2 = byte(value, 3, 4)
      return sub(value, 1, 2) .. be2(l1 * 256 + l2 - 4) .. sub(value, 5, at - 3) .. be2(n - 1)
        .. sub(value, at, at + 4 * k - 1) .. sub(value, at + 4 * k + 4)
    end
  end
end

-- A message that was never sent gives its frequency caps back: one time of each cap it counted for.
local function give_back(r, now)
  if has(r.flags, 4) or has(r.flags, 8) or r.test then return end
  r.flags = r.flags + 4
  local account = account_of(r.dims)
  local _, _, tags, signature = extras_of(r)
  local names = { account, '*', account .. '#s:' .. signature }
  for tag in string.gmatch(tags, '[^\30]+') do names[#names + 1] = account .. '#t:' .. tag end
  -- Where a cap deferred it, it counts for then: when it was accepted others counted.
  local second = floor((has(r.marks, 16) and de6(r.raw, 13) or r.accepted_at) / 1000)
  for back = 0, 1 do
    local key = num_key(now, back)
    local value = call('HGET', key, r.msisdn)
    local changed = nil
    for i = 1, value and #names or 0 do
      local less = without_time(value, r.cat, names[i], second)
      if less then value, changed = less, true end
    end
    if changed then return call('HSET', key, r.msisdn, value) end
  end
end
