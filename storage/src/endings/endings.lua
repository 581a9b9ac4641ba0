-- What identity providers have ended. KEYS[1] and ARGV[1] are what they are below, ARGV[2] is the caller's time.
if string.sub(ARGV[1], 1, 7) == 'ending.' then
  local base, verb, now = KEYS[1], string.sub(ARGV[1], 8), tonumber(ARGV[2])
  local all = base .. ':os'
  -- What is tidied up beside one mark, at most.
  local TIDIED = 8

  local function whole(number)
    return string.format('%.0f', number)
  end

  -- ARGV[3..]: places. Answers for each until when what was issued is over, where there is a mark.
  if verb == 'read' then
    local answer = {}
    for index = 3, #ARGV do
      answer[#answer + 1] = redis.call('GET', base .. ':o:' .. ARGV[index])
    end
    return answer
  end

  -- ARGV[3]: place, ARGV[4]: until when what was issued is over, ARGV[5]: for how many milliseconds that is remembered,
  -- ARGV[6]: how many marks there may be, ARGV[7]: `1` to tell of it. Nothing is taken back of an earlier one.
  if verb == 'put' then
    local place, key = ARGV[3], base .. ':o:' .. ARGV[3]
    if ARGV[7] == '1' then
      -- First, so that where it may not be told nothing is marked unheard.
      redis.call('PUBLISH', base .. ':ended', 'ending ' .. place)
    end
    local over = math.max(tonumber(ARGV[4]), tonumber(redis.call('GET', key) or '0'))
    local left = math.max(tonumber(ARGV[5]), redis.call('PTTL', key))
    redis.call('SET', key, whole(over), 'PX', whole(left))
    redis.call('ZADD', all, whole(now + left), place)
    if redis.call('PTTL', all) < left then
      redis.call('PEXPIRE', all, whole(left))
    end
    for _, old in ipairs(redis.call('ZRANGEBYSCORE', all, '-inf', '(' .. ARGV[2], 'LIMIT', 0, TIDIED)) do
      redis.call('ZREM', all, old)
    end
    local excess = math.min(redis.call('ZCOUNT', all, '-inf', '+inf') - tonumber(ARGV[6]), TIDIED)
    if excess > 0 then
      for _, oldest in ipairs(redis.call('ZRANGE', all, 0, excess)) do
        if excess > 0 and oldest ~= place then
          redis.call('DEL', base .. ':o:' .. oldest)
          redis.call('ZREM', all, oldest)
          excess = excess - 1
        end
      end
    end
    return 1
  end

  return redis.error_reply('ERR unknown verb')
end
