-- Takes from all limits of a request, or from none: what engine/src/limit.rs does, beside the keys.
--
-- KEYS: one for each limit; the same one may come twice. ARGV[1]: milliseconds since 1970, or nothing for this
-- server's own time. Then for each key, in nanoseconds: what is wanted, the burst, the farthest that a state may lie
-- ahead, and what the gateway has counted by itself and nobody here knows of yet.
--
-- Answers: the limit that refuses (1 is the first, 0 none), milliseconds until it would admit, and then for each key
-- how far its state lies ahead of now, in nanoseconds.
--
-- A number here is a double, exact below 2^53. Nanoseconds since 1970 are past that, so a state is kept as milliseconds
-- and the nanoseconds within, and reckoned with as its distance from now, which is below 2^51 (the caller sees to it).
local NS = 1000000

local now = tonumber(ARGV[1])
local given = now ~= nil
if not given then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end

-- How far the state of a key lies ahead, or nothing where what stands there is no state of ours; or an error.
local function stored(key)
  local text = redis.pcall('GET', key)
  if text == false then
    return 0
  end
  if type(text) == 'table' then
    if string.find(text['err'], 'WRONGTYPE', 1, true) then
      return nil
    end
    return nil, text
  end
  local ms, ns = string.match(text, '^(%d+)%.(%d%d%d%d%d%d)$')
  if not ms then
    return nil
  end
  return math.max(0, (tonumber(ms) - now) * NS + tonumber(ns))
end

local base, ahead, full, write = {}, {}, {}, {}
local refused, longest = 0, -1
for index, key in ipairs(KEYS) do
  local at = index * 4 - 2
  local wanted, burst, owed = tonumber(ARGV[at]), tonumber(ARGV[at + 1]), tonumber(ARGV[at + 3])
  -- Farther ahead than the whole burst lies only what a clock that went back, or a wider limit, has left.
  full[index] = tonumber(ARGV[at + 2])
  if base[key] == nil then
    local found, fault = stored(key)
    if fault then
      return fault
    end
    -- What cannot be read counts as spent: it lets nobody in, and is gone after a period.
    local state = found or full[index]
    write[key] = found == nil or owed > state
    base[key] = math.max(state, owed)
    ahead[key] = base[key]
  end
  local state = math.min(ahead[key], full[index])
  local over = state + wanted - burst
  if over <= 0 then
    ahead[key] = state + wanted
  else
    local part = over % NS
    local wait = (over - part) / NS + (part > 0 and 1 or 0)
    if wait > longest then
      refused, longest = index, wait
    end
  end
end

-- A request that is refused spends nothing; what is merged stays merged.
local answer = { refused, longest }
for index, key in ipairs(KEYS) do
  local state = refused == 0 and ahead[key] or math.min(base[key], full[index])
  answer[index + 2] = state
  if state > 0 and (refused == 0 or write[key]) then
    local part = state % NS
    local whole = (state - part) / NS
    -- Once its time is past a state says nothing. Where the time is given, it is not the time that keys end by.
    local ends = whole + 1 + (given and 3600000 or 0)
    local text = string.format('%.0f.%06.0f', now + whole, part)
    redis.call('SET', key, text, 'PX', string.format('%.0f', ends))
  end
end
return answer
