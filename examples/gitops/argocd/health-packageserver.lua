-- Health of a PackageServer: Healthy, Progressing (it gets there by itself) or Degraded (somebody must act).
-- Argo CD runs it as Lua 5.1 without the libraries string and math.
local aspects = {"Accepted", "ConfigRendered"}

local function health(status, message)
  return {status = status, message = message}
end

local status = obj.status
if status == nil or status.conditions == nil then
  return health("Progressing", "The operator has not seen it yet.")
end
if status.observedGeneration ~= obj.metadata.generation then
  return health("Progressing", "The operator has not seen this version yet.")
end

local found = {}
for _, condition in ipairs(status.conditions) do
  found[condition.type] = condition
end
local ready = found.Ready
if ready ~= nil and ready.status == "True" then
  return health("Healthy", ready.message)
end
for _, aspect in ipairs(aspects) do
  local condition = found[aspect]
  if condition ~= nil and condition.status ~= "True" then
    return health(condition.status == "Unknown" and "Progressing" or "Degraded", condition.message)
  end
end
return health("Progressing", ready ~= nil and ready.message or "It is not Ready yet.")
