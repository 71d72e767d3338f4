#!lua flags=allow-oom
--@include _record
-- Record messages from handsets, and do what they ask for, each in one step.
--
-- Promise: one answered `n` is kept (mo:<period> or mooptout:<period>, by 30 days, with lists by account and of all and a
--   hash by number) and its account told; an opt-out is in force from this moment on, its number's waiting messages among
--   the latest 16 in scope that nobody holds end as blocked, statistics, audit and event say so. START lifts an opt-out and
--   nothing else. What is to be read by a person stands in moreview.
-- Repeat: within ten minutes the same digest answers `r` and writes nothing (an opt-out after an opt-in is none); a time-out cannot double anything.
-- KEYS 1 prefix   ARGV 1-3 retention of the categories  4 seconds kept  5 the same for opt-outs and opt-ins
--   then for each message 16 values: id (16 bytes), msisdn, digest (16), account, stop/start/review/'', JSON, name of its
--   parts ('' none), what to remember of these, id it answers ('' none), scope, mask, source, audit entry, JSON of the
--   opt-out, channel, signature
-- Returns a letter each (n new, r repeat), the final states, then for each new stop: opt-outs of the hour by channel and
--   by block of 10,000 numbers on this shard, messages ended, '1' if it was no opt-out before
local REPEAT_MS, PERIOD_S, NUMBER_MOST, REVIEW_MOST = 600000, 2592000, 64, 10000
RETENTION[1], RETENTION[2], RETENTION[3] = ARGV[1], ARGV[2], ARGV[3]
local now = time_ms()
local period = floor(now / 1000 / PERIOD_S)
local keep, keep_optout = tonumber(ARGV[4]), tonumber(ARGV[5])
local ends = (period + 1) * PERIOD_S
local slot = floor(now / REPEAT_MS)
local letters, result, counts = {}, { '', '' }, {}

local function expire(key, seconds) call('EXPIREAT', key, ends + seconds) end

-- The waiting messages to a number that an opt-out of this scope and these categories ends; returns how many.
local function block_waiting(msisdn, account, scope, mask)
  local value = call('HGET', num_key(now, 0), msisdn) or call('HGET', num_key(now, 1), msisdn)
  if not value then return 0 end
  local name = string.match(scope, '/(.*)$')
  local n = 0
  for _, r in ipairs(fetch(ids_of_number(value))) do
    if r and find('hfqrw', r.state, 1, true) and not has(r.flags, 8) and has(mask, 2 ^ r.cat)
      and (scope == '*' or account_of(r.dims) == account) then
      local sender, _, _, signature = extras_of(r)
      if (not name or name == sender or name == signature) and not (r.state == 'q' and held(r)) then
        local waited = r.state == 'h' or r.state == 'f'
        waiting_delta = waiting_delta - 1
        finalise(r, 'B', 'user-unsubscribed', '', '', now)
        if waited then call('ZREM', P .. 'due', r.id) end
        n = n + 1
      end
    end
  end
  return n
end

local function opt_out(m)
  local key = P .. 'blacklist:' .. m.scope
  local before = call('HGET', key, m.msisdn) or nil
  local new = not before or select(2, black_parts(before)) ~= 'td'
  local after = black_merged(before, m.mask, 'td', now, m.source)
  if after then
    call('HSET', key, m.msisdn, after)
    if m.scope ~= '*' then call('SADD', P .. 'blacklists', m.scope) end
    black_changed(counts, m.scope, before, after)
    audit(now, m.audit, before or '', after)
  end
  black_beneath(m.msisdn, before, m.mask, 'td', now, m.source)
  if new then
    local r = m.answers ~= '' and fetch({ m.answers })[1]
    if r then
      count(r, m.channel, 'td', '')
    else
      count_as(m.account .. US .. US .. US .. US .. US, '2' .. US .. m.channel .. US .. 'td' .. US, 1)
    end
    if not r or not r.test then count_td(r and r.dims or m.account .. US .. US .. US .. US .. US, m.signature, 'td', now) end
    tell_json(m.account, 'o', now, m.opted)
  end
  local flood = P .. 'optflood:' .. floor(now / 3600000)
  local by_channel = call('HINCRBY', flood, 'c' .. m.channel, 1)
  local by_block = call('HINCRBY', flood, 'b' .. sub(m.msisdn, 1, -5), 1)
  call('EXPIRE', flood, 7200)
  result[#result + 1] = by_channel
  result[#result + 1] = by_block
  result[#result + 1] = block_waiting(m.msisdn, m.account, m.scope, m.mask)
  result[#result + 1] = new and 1 or 0
end

local function opt_in(m)
  for _, scope in ipairs(m.scope == '*' and { '*' } or scopes_below(m.account)) do
    local value = call('HGET', P .. 'blacklist:' .. scope, m.msisdn)
    if value and select(2, black_parts(value)) == 'td' then
      call('HDEL', P .. 'blacklist:' .. scope, m.msisdn)
      black_changed(counts, scope, value, nil)
      audit(now, m.audit, scope .. ' ' .. value, '')
    end
    black_covered(m.msisdn, value or nil, function(under)
      return under and select(2, black_parts(under)) == 'td' and '' or nil
    end)
  end
end

local function keep_message(m)
  local special = m.opt == 'stop' or m.opt == 'start'
  local lasts = math.max(keep, special and keep_optout or 0)
  local family = P .. (special and 'mooptout:' or 'mo:') .. period
  call('HSET', family, m.id, m.json)
  expire(family, lasts)
  for _, list in ipairs({ P .. 'molist:' .. period, P .. 'molist:' .. period .. ':' .. m.account }) do
    call('RPUSH', list, m.id)
    expire(list, math.max(keep, keep_optout))
  end
  if m.msisdn ~= '' then
    local key = P .. 'monum:' .. period
    local ids = (call('HGET', key, m.msisdn) or '') .. m.id
    call('HSET', key, m.msisdn, sub(ids, -ID * NUMBER_MOST))
    expire(key, math.max(keep, keep_optout))
  end
  if m.opt == 'review' then
    call('ZADD', P .. 'moreview', ms_text(now), m.id)
    call('ZREMRANGEBYRANK', P .. 'moreview', 0, -REVIEW_MOST - 1)
  end
  tell_json(m.account, 'i', now, m.json)
end

-- The field of `modup` with the digest of a number's latest opt-out or opt-in; an erased number must not stand in it.
local function latest_wish(m) return 'o' .. redis.sha1hex(m.msisdn) end

-- Whether a message is on record already. TD, START and TD again within ten minutes are three wishes, of which the last
-- holds: an opt-out or opt-in repeats the number's latest one only.
local function repeated(m)
  local known = call('HGET', P .. 'modup:' .. slot, m.digest) or call('HGET', P .. 'modup:' .. (slot - 1), m.digest)
  if not known or now - de6(known, ID + 1) >= REPEAT_MS then return false end
  if sub(known, 1, ID) == m.id or m.msisdn == '' or (m.opt ~= 'stop' and m.opt ~= 'start') then return true end
  local field = latest_wish(m)
  local last = call('HGET', P .. 'modup:' .. slot, field) or call('HGET', P .. 'modup:' .. (slot - 1), field)
  return not last or last == m.digest
end

for i = 6, #ARGV, 16 do
  local m = {
    id = ARGV[i], msisdn = ARGV[i + 1], digest = ARGV[i + 2], account = ARGV[i + 3], opt = ARGV[i + 4], json = ARGV[i + 5],
    parts = ARGV[i + 6], done = ARGV[i + 7], answers = ARGV[i + 8], scope = ARGV[i + 9], mask = tonumber(ARGV[i + 10]),
    source = ARGV[i + 11], audit = ARGV[i + 12], opted = ARGV[i + 13], channel = ARGV[i + 14], signature = ARGV[i + 15],
  }
  if repeated(m) then
    letters[#letters + 1] = 'r'
  else
    letters[#letters + 1] = 'n'
    call('HSET', P .. 'modup:' .. slot, m.digest, m.id .. be6(now))
    if m.msisdn ~= '' and (m.opt == 'stop' or m.opt == 'start') then
      call('HSET', P .. 'modup:' .. slot, latest_wish(m), m.digest)
    end
    call('PEXPIREAT', P .. 'modup:' .. slot, ms_text((slot + 2) * REPEAT_MS))
    keep_message(m)
    if m.opt == 'stop' and m.msisdn ~= '' then opt_out(m) end
    if m.opt == 'start' and m.msisdn ~= '' then opt_in(m) end
  end
  if m.parts ~= '' then
    if call('DEL', P .. 'mopart:' .. m.parts) == 1 and m.done ~= '' then
      call('SET', P .. 'modone:' .. m.parts, m.done, 'PX', REPEAT_MS)
    end
    call('ZREM', P .. 'moparts', m.parts)
  end
end
black_counted(counts, now)
result[1], result[2] = table.concat(letters), finish(now)
return result
