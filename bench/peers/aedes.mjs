// aedes for comparisons, after the example of its README: one process, everything in memory.
import { createServer } from 'node:net'
import { Aedes } from 'aedes'

const broker = await Aedes.createBroker()
createServer({ noDelay: true }, broker.handle).listen({ port: PORT, host: '127.0.0.1', backlog: 4096 })
process.once('SIGTERM', () => process.exit(0))
