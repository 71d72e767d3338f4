-- Blacklists and the audit: what mo.lua and the moves on blacklists share.
--   blacklist:<scope>  number → mask of categories (a digit: 1 verification, 2 notification, 4 marketing), then
--                      reason:second:source. accept.lua and claim.lua look at the mask alone
--   blackcount         scope US reason → numbers;  blackday:<day>  scope US reason US + or - → how many came and went
-- One number has one entry a scope. Where two reasons meet, the stronger stays and the categories are joined: a START lifts
-- an opt-out alone, so what an operator or a list says besides must not look like one.
local HOLDS = { td = 1, complaint = 2, ['invalid-number'] = 3, ['do-not-disturb'] = 4, operator = 5 }

-- The parts of a value: mask, reason, second, source.
local function black_parts(value)
  local mask, reason, at, source = string.match(value, '^(%d)([^:]*):(%d+):?(.*)$')
  return tonumber(mask or 0), reason or '', tonumber(at or 0), source or ''
end

local function black_value(mask, reason, now, source)
  return mask .. reason .. ':' .. floor(now / 1000) .. ':' .. source
end

-- What an entry becomes when more is said of its number; nil when it says so already.
local function black_merged(before, mask, reason, now, source)
  if not before then return black_value(mask, reason, now, source) end
  local had, why, _, from = black_parts(before)
  local both = 0
  for bit = 0, 2 do
    if has(had, 2 ^ bit) or has(mask, 2 ^ bit) then both = both + 2 ^ bit end
  end
  local stays = (HOLDS[why] or 5) >= (HOLDS[reason] or 5)
  if both == had and stays then return nil end
  -- The source goes with the reason that stays: taking back what one source said must not take back what another did.
  -- An import finds by its name what it changed, and has what was there before.
  if stays and sub(source, 1, 7) ~= 'import.' then source = from end
  return black_value(both, stays and why or reason, now, source)
end

-- The values that imports cover at a number, as `each(key, value)` changes them: nil leaves one, '' removes it.
local function black_covered(number, value, each)
  for _ = 1, 8 do
    local import = value and string.match(select(4, black_parts(value)), '^import%.(.+)$')
    if not import then return end
    local key = P .. 'blackundo:' .. import
    value = call('HGET', key, number) or nil
    local after = each(value)
    if after == '' then
      call('HDEL', key, number)
    elseif after then
      call('HSET', key, number, after)
      call('EXPIRE', key, 34560000) -- 400 days
    end
  end
end

-- Say it of what an import covers as well: that is what `black_undo` gives back, and an opt-out must outlive it.
local function black_beneath(number, before, mask, reason, now, source)
  black_covered(number, before, function(value) return black_merged(value, mask, reason, now, source) end)
end

-- Note for the counters how many entries of a reason came and went; `black_counted` writes them.
local function black_counts(counts, scope, reason, came, went)
  local field = scope .. US .. reason
  local n = counts[field]
  if not n then
    n = { 0, 0 }
    counts[field] = n
  end
  n[1], n[2] = n[1] + came, n[2] + went
end

-- The same for one entry that changed.
local function black_changed(counts, scope, before, after)
  local was, is = before and select(2, black_parts(before)), after and select(2, black_parts(after))
  if was == is then return end
  if was then black_counts(counts, scope, was, 0, 1) end
  if is then black_counts(counts, scope, is, 1, 0) end
end

local function black_counted(counts, now)
  local day = P .. 'blackday:' .. floor(now / 86400000)
  for field, n in pairs(counts) do
    if n[1] ~= n[2] and call('HINCRBY', P .. 'blackcount', field, n[1] - n[2]) == 0 then
      call('HDEL', P .. 'blackcount', field)
    end
    if n[1] > 0 then call('HINCRBY', day, field .. US .. '+', n[1]) end
    if n[2] > 0 then call('HINCRBY', day, field .. US .. '-', n[2]) end
    call('EXPIRE', day, 34560000) -- 400 days
  end
end

-- The scopes at and below one: an account's is above those of its senders and signatures.
local function scopes_below(scope)
  local found = { scope }
  for _, name in ipairs(call('SMEMBERS', P .. 'blacklists')) do
    if sub(name, 1, #scope + 1) == scope .. '/' then found[#found + 1] = name end
  end
  table.sort(found)
  return found
end

-- The audit: who did what, with what was there before and after. Each entry holds the hash of the one before it, so that
-- one changed, left out or put between shows (store/audit.py compares). Capped: the oldest leave.
local AUDIT_MOST = 100000
local function audit(now, what, before, after)
  local n, last = unpack(call('HMGET', P .. 'audit:head', 'n', 'h'))
  n = ms_text((tonumber(n) or 0) + 1)
  local at = ms_text(now)
  local hash = redis.sha1hex(table.concat({ last or '', n, at, what, before, after }, US))
  call('XADD', P .. 'audit', 'MAXLEN', '~', AUDIT_MOST, '*', 'n', n, 't', at, 'e', what, 'b', before, 'a', after, 'h', hash)
  call('HSET', P .. 'audit:head', 'n', n, 'h', hash)
end
