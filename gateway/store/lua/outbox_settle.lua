#!lua flags=allow-oom
-- Note what became of taken events of one account.
--
-- Promise: an event leaves only as delivered or as a dead letter; what is tried later waits durably, and later events of
--   the same message wait behind it.
-- Repeat: numbers that are settled already change nothing.
-- KEYS 1 prefix   ARGV 1 account  2 epoch of its holder  3 keys that may wait for a retry  4 dead letters kept
--   then for each event 5 values: number, verdict, delay ms, reason, numbers (comma between) of taken events of the same
--   message that come after it: they go behind it. Verdicts: d delivered | l later | x given up | b back, not tried
-- Returns  nil when somebody else holds the account; else the number of events that became dead letters
--
-- Keys: see outbox_take. A dead letter: failed attempts (1), times of its first attempt and its end (6 each), length of the
-- reason (1), reason, event; `outdeadwhy` counts them by account and reason.
local P = KEYS[1]
local call, sub, byte, char, floor = redis.call, string.sub, string.byte, string.char, math.floor
local account, epoch = ARGV[1], tonumber(ARGV[2])
local held_most, dead_most = tonumber(ARGV[3]), tonumber(ARGV[4])
local out, busy = P .. 'out:' .. account, P .. 'outbusy:' .. account
local held, later, dead = P .. 'outheld:' .. account, P .. 'outlater:' .. account, P .. 'outdead:' .. account
if epoch ~= tonumber(call('HGET', P .. 'outepoch', account) or '0') then return false end
local t = call('TIME')
local now = t[1] * 1000 + floor(t[2] / 1000)

local function be6(n)
  local high = floor(n / 4294967296)
  local low = n - high * 4294967296
  return struct.pack('>I2I4', high, low)
end

local function entry(attempts, first, event)
  return struct.pack('>I4', 7 + #event) .. char(math.min(attempts, 255)) .. first .. event
end

-- The key that events of one message wait under.
local function key_of(number, event)
  local kind = byte(event)
  if kind == 105 or kind == 111 then return number end
  return sub(event, 8, 23)
end

local buried = 0
local function bury(attempts, first, reason, event)
  call('RPUSH', dead, char(math.min(attempts, 255)) .. first .. be6(now) .. char(#reason) .. reason .. event)
  call('HINCRBY', P .. 'outdeadwhy', account .. '\31' .. reason, 1)
  buried = buried + 1
  if call('LLEN', dead) > dead_most then
    local oldest = call('LPOP', dead)
    local why = sub(oldest, 15, 14 + byte(oldest, 14))
    if call('HINCRBY', P .. 'outdeadwhy', account .. '\31' .. why, -1) <= 0 then
      call('HDEL', P .. 'outdeadwhy', account .. '\31' .. why)
    end
    call('HINCRBY', P .. 'outlost', account, 1)
  end
end

local gone, back = {}, {}
for i = 5, #ARGV, 5 do
  local number, verdict, delay, reason = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2]), ARGV[i + 3]
  local what = call('HGET', busy, number)
  if what then
    gone[#gone + 1] = number
    local is_new = byte(what) == 110
    local key, blob, event, attempts, first, rest
    if is_new then
      event = sub(what, 2)
      key, attempts, first, rest = key_of(number, event), 0, be6(now), ''
    else
      key = sub(what, 2)
      blob = call('HGET', held, key)
      if blob then
        local size = struct.unpack('>I4', blob)
        attempts, first, event, rest = byte(blob, 5), sub(blob, 6, 11), sub(blob, 12, 4 + size), sub(blob, 5 + size)
        if first == '\0\0\0\0\0\0' then first = be6(now) end
      end
    end
    if event then
      for follower in string.gmatch(ARGV[i + 4], '%d+') do
        local after = call('HGET', busy, follower)
        if after and byte(after) == 110 then
          rest = rest .. entry(0, '\0\0\0\0\0\0', sub(after, 2))
          gone[#gone + 1] = follower
        end
      end
      if verdict == 'l' and is_new and call('HLEN', held) >= held_most then verdict, reason = 'x', 'too_many' end
      if verdict == 'l' then
        call('HSET', held, key, entry(attempts + 1, first, event) .. rest)
        call('ZADD', later, now + delay, key)
      elseif verdict == 'b' then
        if is_new and rest == '' then
          back[#back + 1] = event
        else
          call('HSET', held, key, entry(attempts, first, event) .. rest)
          call('ZADD', later, now, key)
        end
      else
        if verdict == 'x' then bury(attempts + 1, first, reason, event) end
        if rest ~= '' then
          call('HSET', held, key, rest)
          call('ZADD', later, now, key)
        elseif not is_new then
          call('HDEL', held, key)
        end
      end
    end
  end
end
for i = #back, 1, -1 do call('LPUSH', out, back[i]) end
for i = 1, #gone, 2000 do call('HDEL', busy, unpack(gone, i, math.min(i + 1999, #gone))) end
return buried
