#!lua flags=allow-oom
-- Take events of one account for delivery: those whose retry is due, then new ones, in order.
--
-- Promise: what is taken is noted until outbox_settle says what became of it; a holder with a higher epoch gets all of it
--   again. An event of a message that has an earlier one waiting for its retry is put behind that one, not taken.
-- Repeat: under the same token the same events again, less those settled meanwhile, and nothing new.
-- KEYS 1 prefix   ARGV 1 account  2 epoch of its holder  3 token of this call  4 most
-- Returns  nil when somebody else holds the account; else for each event 4 values: number, failed attempts so far, time of
--   the first attempt (ms, 0 none), event
--
-- `outbusy:<account>` number → `n` event (new) or `h` key (the first of what waits under that key); `outheld:<account>` key
-- → entries of what waits in order: length (4 bytes), failed attempts (1), time of the first attempt (6), event;
-- `outlater:<account>` keys by the time of the retry. A key is a message's id, or a number for events without one.
local P = KEYS[1]
local call, sub, byte = redis.call, string.sub, string.byte
local account, epoch, token, most = ARGV[1], tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4])
local out, busy = P .. 'out:' .. account, P .. 'outbusy:' .. account
local held, later = P .. 'outheld:' .. account, P .. 'outlater:' .. account
local t = call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)

local function first_held(key)
  local blob = call('HGET', held, key)
  if not blob then return nil end
  local size = struct.unpack('>I4', blob)
  local a, b, c, d, e, f = byte(blob, 6, 11)
  local first = ((((a * 256 + b) * 256 + c) * 256 + d) * 256 + e) * 256 + f
  return byte(blob, 5), string.format('%.0f', first), sub(blob, 12, 4 + size)
end

local state = call('HMGET', P .. 'outepoch', account, account .. '\31token', account .. '\31next')
local known, next = tonumber(state[1] or '0'), tonumber(state[3] or '1')
if epoch < known then return false end
if epoch > known then
  -- What the former holder had taken goes back to where it came from, in order.
  local all, numbers, value = call('HGETALL', busy), {}, {}
  for i = 1, #all, 2 do
    numbers[#numbers + 1] = tonumber(all[i])
    value[tonumber(all[i])] = all[i + 1]
  end
  table.sort(numbers)
  for i = #numbers, 1, -1 do
    local what = value[numbers[i]]
    if byte(what) == 110 then
      call('LPUSH', out, sub(what, 2))
    else
      call('ZADD', later, now, sub(what, 2))
    end
  end
  call('DEL', busy)
  call('HSET', P .. 'outepoch', account, epoch)
  call('HDEL', P .. 'outepoch', account .. '\31token')
  state[2] = false
end

local answer = {}
local function give(number, attempts, first, event)
  local n = #answer
  answer[n + 1], answer[n + 2], answer[n + 3], answer[n + 4] = number, attempts, first, event
end

if state[2] then
  local before, from, to = string.match(state[2], '^(.*):(%d+):(%d+)$')
  if before == token then
    for number = tonumber(from), tonumber(to) do
      local what = call('HGET', busy, number)
      if what and byte(what) == 110 then
        give(number, 0, '0', sub(what, 2))
      elseif what then
        local attempts, first, event = first_held(sub(what, 2))
        if event then give(number, attempts, first, event) end
      end
    end
    return answer
  end
end

local from, noted = next, {}
local due = call('ZRANGEBYSCORE', later, '-inf', now, 'LIMIT', 0, most)
for i = 1, #due do
  local attempts, first, event = first_held(due[i])
  call('ZREM', later, due[i])
  if event then
    noted[#noted + 1] = next
    noted[#noted + 1] = 'h' .. due[i]
    give(next, attempts, first, event)
    next = next + 1
  end
end
local fresh = most > #due and call('LPOP', out, most - #due)
if fresh then
  local some = call('HLEN', held) > 0
  for i = 1, #fresh do
    local event = fresh[i]
    local kind, before = byte(event), nil
    if some and kind ~= 105 and kind ~= 111 then before = call('HGET', held, sub(event, 8, 23)) end
    if before then
      call('HSET', held, sub(event, 8, 23), before .. struct.pack('>I4', 7 + #event) .. string.rep('\0', 7) .. event)
    else
      noted[#noted + 1] = next
      noted[#noted + 1] = 'n' .. event
      give(next, 0, '0', event)
      next = next + 1
    end
  end
end
for i = 1, #noted, 2000 do call('HSET', busy, unpack(noted, i, math.min(i + 1999, #noted))) end
if next > from then
  call('HSET', P .. 'outepoch', account .. '\31next', next, account .. '\31token', token .. ':' .. from .. ':' .. next - 1)
end
return answer
