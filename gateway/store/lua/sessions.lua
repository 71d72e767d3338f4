#!lua flags=allow-oom
-- What each worker says of its sessions, and when a channel lost the last of all workers' or got one back.
--
-- Promise: a loss and a return are noted once in the changes, whoever said it last. A session that is only being opened
--   or ended by us (no trouble) is neither. What a worker without a lease said goes after OLD_MS.
-- Repeat: a row that says the same keeps its times; nothing is noted again.
-- KEYS 1 hash: "<channel>\31<incarnation>" → row, "\31<channel>" → what all say   2 stream of changes
-- ARGV 1 incarnation  2 '1': it ends, and takes back what it said  3 number of incarnations with a lease  4… these
--   then quintuples: channel, sessions that can submit, bind slots, kind of trouble ('' none), its detail;
--   slots '-': nothing is to be said of the channel any more
-- Row  "bound,slots,since,at,kind,detail": since when there is trouble or none, and when it was said (ms)
-- Returns the number of rows that changed
local OLD_MS, MOST, KEEP_MS, AGAIN_MS = 10000, 500, 604800000, 50000
local US = '\31'
local call = redis.call
local t = call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local own, n = ARGV[1], tonumber(ARGV[3])
local alive = { [own] = true }
for i = 1, n do alive[ARGV[3 + i]] = true end

local function parse(text)
  local bound, slots, since, at, kind, detail = string.match(text, '^(%d+),(%d+),(%d+),(%d+),([%a_]*),(.*)$')
  return { bound = tonumber(bound), slots = tonumber(slots), since = tonumber(since), at = tonumber(at), kind = kind,
    detail = detail }
end

local by, said, touched, changed = {}, {}, {}, 0
local flat = call('HGETALL', KEYS[1])
local function drop(channel, inc)
  by[channel][inc] = nil
  call('HDEL', KEYS[1], channel .. US .. inc)
  touched[channel] = true
  changed = changed + 1
end
for i = 1, #flat, 2 do
  local channel, inc = string.match(flat[i], '^([^\31]*)\31([^\31]*)$')
  if channel == '' then
    said[inc] = flat[i + 1]
  else
    by[channel] = by[channel] or {}
    by[channel][inc] = parse(flat[i + 1])
  end
end
for channel, rows in pairs(by) do
  for inc, row in pairs(rows) do
    if (not alive[inc] and now - row.at > OLD_MS) or (inc == own and ARGV[2] == '1') then drop(channel, inc) end
  end
end
for i = 4 + n, #ARGV, 5 do
  local channel, bound, slots, kind, detail = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4]
  by[channel] = by[channel] or {}
  local row = by[channel][own]
  if slots == '-' then
    if row then drop(channel, own) end
  else
    bound, slots = tonumber(bound), tonumber(slots)
    local same = row and row.bound == bound and row.slots == slots and row.kind == kind and row.detail == detail
    if not same or now - row.at > AGAIN_MS then
      local since = row and (row.kind == '') == (kind == '') and row.since or now
      by[channel][own] = { bound = bound, slots = slots, since = since, at = now, kind = kind, detail = detail }
      call('HSET', KEYS[1], channel .. US .. own,
        string.format('%d,%d,%.0f,%.0f,%s,%s', bound, slots, since, now, kind, detail))
      touched[channel] = true
      changed = changed + 1
    end
  end
end
local function note(kind, channel, ...)
  call('XADD', KEYS[2], 'MAXLEN', MOST, '*', 'kind', kind, 'object', channel, ...)
  call('XTRIM', KEYS[2], 'MINID', string.format('%.0f', now - KEEP_MS))
end
for channel in pairs(touched) do
  local bound, latest, any = 0, nil, false
  for _, row in pairs(by[channel]) do
    any = true
    bound = bound + row.bound
    if row.kind ~= '' and (not latest or row.at > latest.at) then latest = row end
  end
  local was, since = string.match(said[channel] or '', '^(%a+),(%d+)$')
  local is = bound > 0 and 'up' or latest and 'down' or any and was or nil
  if is ~= was then
    if is == 'down' then
      note('channel_down', channel, 'cause', latest.kind, 'detail', latest.detail)
    elseif is == 'up' and was == 'down' then
      note('channel_up', channel, 'ms', string.format('%.0f', now - since))
    end
    if is then
      call('HSET', KEYS[1], US .. channel, string.format('%s,%.0f', is, now))
    else
      call('HDEL', KEYS[1], US .. channel)
    end
  end
end
return changed
