#!lua flags=allow-oom
--@include _record
-- End messages whose time is over, also while every channel is down.
--
-- Promise: looks at the buckets whose time has come, in order; the record decides. What is in flight is looked at again.
--   Entries of ended messages leave the heads of their queues: where no channel claims, nobody else would meet them, and
--   depth and age would be those of nothing.
-- KEYS 1 prefix   ARGV 1 most ids  2-4 retention_s   Returns ids looked at, expired, final states
local now = time_ms()
RETENTION[1], RETENTION[2], RETENTION[3] = ARGV[2], ARGV[3], ARGV[4]
local expired, again, ended_in = 0, {}, {} -- ended_in: ring → account → true

local function trim(ring, account)
  local key = P .. 'q:' .. ring .. ':' .. account
  while true do
    local entries, keys, dead = call('LRANGE', key, 0, 199), {}, 0
    for i = 1, #entries do keys[i] = P .. 'msg:' .. sub(entries[i], 1, ID) end
    local raws = #keys > 0 and call('MGET', unpack(keys)) or {}
    while dead < #entries do
      local raw = raws[dead + 1]
      if raw and byte(raw, #raw - T + 1) == 113 then break end -- q
      dead = dead + 1
    end
    if dead > 0 then call('LPOP', key, dead) end
    if dead < 200 then break end
  end
  if call('EXISTS', key) == 0 then
    call('LREM', P .. 'ring:' .. ring, 1, account)
    if call('EXISTS', P .. 'ring:' .. ring) == 0 then call('SREM', P .. 'rings', ring) end
  end
end

local looked = visit_buckets('exp', 15, tonumber(ARGV[1]), now, function(ids)
  local records = fetch(ids)
  for i = 1, #ids do
    local r = records[i]
    if r and find('qhfrw', r.state, 1, true) then
      if r.expires_at <= now and not (r.state == 'q' and held(r)) then
        waiting_delta = waiting_delta - 1
        if r.state == 'q' then
          local ring = route_of(r.dims) .. ':' .. r.rank .. ':' .. r.cat
          ended_in[ring] = ended_in[ring] or {}
          ended_in[ring][account_of(r.dims)] = true
        end
        finalise(r, has(r.flags, 8) and 'K' or 'E', 'expired', '', '', now)
        expired = expired + 1
      else
        again[#again + 1] = r.id
      end
    elseif r and r.state == 'u' then
      again[#again + 1] = r.id
    end
  end
end)
for ring, accounts in pairs(ended_in) do
  for account in pairs(accounts) do trim(ring, account) end
end
if #again > 0 then call('RPUSH', P .. 'exp:' .. (floor(now / 15000) + 2) * 15, unpack(again)) end
return { looked, expired, finish(now) }
